package main

import (
	"bytes"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/truth"
	"github.com/fettle-dev/fettle/internal/score"
	"github.com/fettle-dev/fettle/recording"
)

const (
	every  = 5 * time.Minute // from row to row
	beyond = 24              // rows after a label that are not called healthy yet: what was drift there may still be told
)

// start is the time of the first row of test.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// pool is one of the pools, with labels of test.
type pool struct {
	name    string
	members []score.Member
	labels  [][]bool
}

// loadPools reads the pools of a folder; members without one are left out.
func loadPools(dir string) ([]pool, error) {
	files, err := score.Find(dir)
	if err != nil {
		return nil, err
	}
	names, err := score.Pools(filepath.Join(dir, score.PoolsFile))
	if err != nil {
		return nil, err
	}
	var out []pool
	for _, group := range score.Together(files, names) {
		p := pool{name: names[group[0].Name]}
		if p.name == "" {
			continue
		}
		for i := range group {
			m, err := group[i].Read()
			if err != nil {
				return nil, err
			}
			ill, err := truth.Of(dir, &m)
			if err != nil {
				return nil, err
			}
			p.members, p.labels = append(p.members, m), append(p.labels, ill)
		}
		out = append(out, p)
	}
	return out, nil
}

// healthy are the rows of test without a label, from some rows beyond the last one on.
func healthy(labels []bool) []bool {
	out := make([]bool, len(labels))
	since := beyond
	for i, ill := range labels {
		if since++; ill {
			since = 0
		}
		out[i] = since > beyond
	}
	return out
}

// replay makes a recording of the pool, as `fettle record import` does, and replays it.
func (p *pool) replay() (outcome, error) {
	o := outcome{set: jumpStarter, pool: p.name, members: len(p.members)}
	var calm [][]bool
	for _, l := range p.labels {
		h := healthy(l)
		for _, is := range h {
			if is {
				o.days += every.Hours() / 24
			}
		}
		calm = append(calm, h)
	}
	file, err := p.recording()
	if err != nil {
		return o, err
	}
	r, err := recording.NewReader(file)
	if err != nil {
		return o, err
	}
	play, err := begin(r)
	if err != nil {
		return o, err
	}
	// of tells whose a Ref is, and whether that is healthy at a time of test.
	of := func(at time.Time, id ft.InstanceID) (who int, fine, inTest bool) {
		i, row := int(id.Serial())-1, int(at.Sub(start)/every)
		if at.Before(start) || i < 0 || i >= len(calm) || row >= len(calm[i]) { // a replacement that never came is none of them
			return 0, false, false
		}
		return i, calm[i][row], true
	}
	return o, replay(play, false, hearing{
		did: func(a action) {
			switch i, fine, inTest := of(a.at, ft.InstanceID(a.who)); {
			case fine:
				a.who = p.members[i].Name
				o.actions = append(o.actions, a)
			case inTest:
				o.labelled++
			}
		},
		alarmed: func(at time.Time, who ft.Ref) {
			switch _, fine, inTest := of(at, who.ID); {
			case fine:
				o.alarms++
			case inTest:
				o.labelledAlarms++
			}
		},
		saw: func(time.Time, int) {},
	})
}

// recording is the pool's train and test in one stream, in the scales that `fettle score` finds in train. Member i is the
// instance of serial i+1.
func (p *pool) recording() (*bytes.Buffer, error) {
	scaled, err := score.Scaled(p.members)
	if err != nil {
		return nil, err
	}
	name := ft.PoolName(strings.ToLower(p.name))
	var inputs []recording.Input
	for i := range scaled {
		inputs = append(inputs, recording.Input{Name: string(ft.NewInstanceID(name, uint32(i+1))) + ".csv", R: strings.NewReader(table(&scaled[i]))})
	}
	out := &bytes.Buffer{}
	w := recording.NewWriter(out)
	if _, err := recording.Import(inputs, recording.ImportOptions{Pool: name, Every: every}, w.Line); err != nil {
		return nil, err
	}
	return out, w.Flush()
}

// table is a member as CSV. Its rows of test begin when those of all others do.
func table(m *score.Member) string {
	b := []byte("time," + strings.Join(m.Columns, ",") + "\n")
	at := start.Add(-every * time.Duration(len(m.Train)))
	for _, rows := range [...][][]float64{m.Train, m.Test} {
		for _, row := range rows {
			b = strconv.AppendInt(b, at.Unix(), 10)
			for _, v := range row {
				if b = append(b, ','); !math.IsNaN(v) && !math.IsInf(v, 0) {
					b = strconv.AppendFloat(b, v, 'g', -1, 64)
				}
			}
			b = append(b, '\n')
			at = at.Add(every)
		}
	}
	return string(b)
}
