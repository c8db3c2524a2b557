package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/recording"
)

// answer is what a verdict says of a drift.
type answer struct {
	cause  ft.Cause
	extent ft.Extent
}

// outcome is what the judge said of one stretch to a pool of n.
type outcome struct {
	*stretch
	n     int
	said  *standing // nil where nothing stood
	delay time.Duration
}

// scenario of the outcome.
func (o *outcome) scenario() scenario { return scenario{o.Kind, o.All} }

// scoped tells whether the scope is judged too: of one or two it cannot be told.
func (o *outcome) scoped() bool { return o.n > 2 }

// right tells whether the answer is that of the scenario, and names the instance where it is one.
func (o *outcome) right() bool {
	t := o.scenario().truth()
	if o.said == nil {
		return o.Kind == control
	}
	if o.said.cause != t.cause || o.Kind == control {
		return false
	}
	return !o.scoped() || o.said.extent == t.extent && (t.extent == ft.WholePool || o.said.id == ft.InstanceID(o.Victim))
}

// unknown tells whether the answer is that it is not known.
func (o *outcome) unknown() bool {
	return o.said != nil && (o.said.cause == ft.CauseUnknown || o.scoped() && o.said.extent == ft.ExtentUnknown)
}

// tape is the frames of a recording.
type tape struct {
	header *recording.Header
	schema *ft.Schema
	frames []ft.Frame
	ids    [][]ft.InstanceID // of their rows
}

func readTape(path string) (*tape, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := recording.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t := &tape{header: r.Header(), schema: r.Schema()}
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if s.Frame == nil {
			continue
		}
		c := *s.Frame
		c.Rows, c.X, c.Have, c.Span = slices.Clone(c.Rows), slices.Clone(c.X), slices.Clone(c.Have), slices.Clone(c.Span)
		c.Counts, c.Labels = slices.Clone(c.Counts), slices.Clone(c.Labels)
		t.frames = append(t.frames, c)
		ids := make([]ft.InstanceID, len(s.Rows))
		for i := range s.Rows {
			ids[i] = s.Rows[i].ID
		}
		t.ids = append(t.ids, ids)
	}
}

// of makes dst frame i of a pool of some of the members, as a pool of its own would have had it. Load is what was offered
// to each: rows know nothing of the others.
func (t *tape) of(dst *ft.Frame, i int, members []ft.InstanceID) []ft.InstanceID {
	src := &t.frames[i]
	d, c := t.schema.Len(), t.schema.Categories()
	*dst = ft.Frame{
		At: src.At, Schema: t.schema, Rows: dst.Rows[:0], X: dst.X[:0], Have: dst.Have[:0], Span: dst.Span[:0], Counts: dst.Counts[:0],
		Labels: src.Labels,
	}
	var ids []ft.InstanceID
	for r, id := range t.ids[i] {
		if !slices.Contains(members, id) {
			continue
		}
		ids = append(ids, id)
		dst.Rows, dst.Have, dst.Span = append(dst.Rows, src.Rows[r]), append(dst.Have, src.Have[r]), append(dst.Span, src.Span[r])
		dst.X, dst.Counts = append(dst.X, src.X[r*d:(r+1)*d]...), append(dst.Counts, src.Counts[r*c:(r+1)*c]...)
	}
	return ids
}

// subset is n members with the victim among them; the others follow it in the pool's order.
func (t *tape) subset(victim string, n int) []ft.InstanceID {
	all := t.ids[0]
	at := max(0, slices.Index(all, ft.InstanceID(victim)))
	var out []ft.InstanceID
	for i := range min(n, len(all)) {
		out = append(out, all[(at+i)%len(all)])
	}
	return out
}

// judge lets a judge learn from the healthy stretch and see the other, as the daemon of a pool of n would.
func (b *bench) judge(s *stretch, learnt, seen *tape, n int) (*outcome, error) {
	if learnt.header.Judge == nil || len(learnt.frames) == 0 || len(seen.frames) == 0 {
		return nil, errors.New("there is nothing that was judged")
	}
	c := learnt.header.Judge
	j, err := drift.New(learnt.schema, drift.Config{
		Interval: c.Interval.D(), Learn: c.Learn.D(), FalseAlarms: c.FalseAlarms, Persist: c.Persist.D(), MemoryLimit: c.MemoryLimit, Seed: c.Seed,
	})
	if err != nil {
		return nil, err
	}
	members := learnt.subset(s.Victim, n)
	var f ft.Frame
	for i := range learnt.frames {
		learnt.of(&f, i, members)
		j.Observe(nil, &f)
	}
	w := newWitness(int(c.Persist.D() / c.Interval.D()))
	for i := range seen.frames {
		ids := seen.of(&f, i, members)
		f.Schema = learnt.schema
		j.Observe(nil, &f)
		if b.trace && i%int(max(1, time.Second/c.Interval.D())) == 0 {
			for r := range f.Rows {
				if v := j.Verdict(f.Rows[r].Slot); ids[r] == ft.InstanceID(s.Victim) {
					report.Say("%s, N = %d, %+.1f s: %s, %s: %s", s.file, n, f.At.Sub(s.Begun).Seconds(), v.Cause, v.Extent, evidence(&v, &f))
				}
			}
			v := j.Pool()
			report.Say("%s, N = %d, %+.1f s: pool: %s: %s", s.file, n, f.At.Sub(s.Begun).Seconds(), v.Cause, evidence(&v, &f))
		}
		if f.At.Before(s.Begun) || f.At.After(s.Ended) {
			continue
		}
		for r := range f.Rows {
			w.hear(ids[r], j.Verdict(f.Rows[r].Slot), &f)
		}
		w.hear("", j.Pool(), &f)
	}
	o := &outcome{stretch: s, n: n, said: w.strongest()}
	if o.said != nil {
		o.delay = o.said.first.Sub(s.Begun)
	}
	return o, nil
}

// found lists the stretches that are recorded and chosen.
func (b *bench) found() ([]*stretch, error) {
	var out []*stretch
	for i := range b.apps {
		for _, seed := range b.seeds {
			dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", b.apps[i].name, seed))
			for _, s := range b.scenarios {
				text, err := os.ReadFile(fileOf(dir, s) + ".json")
				if errors.Is(err, fs.ErrNotExist) {
					b.whole = b.whole && slices.Contains(b.apps[i].lacks, s.kind)
					continue
				}
				if err != nil {
					return nil, err
				}
				v := &stretch{file: fileOf(dir, s)}
				if err := json.Unmarshal(text, v); err != nil {
					return nil, fmt.Errorf("%s.json: %w", v.file, err)
				}
				out = append(out, v)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("nothing is recorded in %s", b.dir)
	}
	return out, nil
}

// judgeAll judges what is recorded and tells the result.
func (b *bench) judgeAll(ctx context.Context) error {
	list, err := b.found()
	if err != nil {
		return err
	}
	tapes := map[string]*tape{}
	for _, s := range list {
		path := filepath.Join(filepath.Dir(s.file), s.Learnt)
		if tapes[path] == nil {
			if tapes[path], err = readTape(path); err != nil {
				return err
			}
		}
	}
	all := make([]*outcome, len(list)*len(b.sizes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range list {
		group.Go(func() error {
			seen, err := readTape(s.file + ".rec")
			if err != nil {
				return err
			}
			for k, n := range b.sizes {
				if err := ctx.Err(); err != nil {
					return err
				}
				o, err := b.judge(s, tapes[filepath.Join(filepath.Dir(s.file), s.Learnt)], seen, n)
				if err != nil {
					return fmt.Errorf("%s: %w", s.file, err)
				}
				all[i*len(b.sizes)+k] = o
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return b.tell(os.Stdout, all)
}
