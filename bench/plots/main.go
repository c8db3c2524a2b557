// Command plots draws what the judge makes of three instructive cases in seeded virtual pools, for docs/detector.md: a leak
// that is caught, a change of load that is left alone, and an event of the whole pool (`make plots`). The same judge gives
// the same pictures.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/driver/sim"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench plots:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("plots", flag.ContinueOnError)
	dir := f.String("dir", "docs/img", "where to write the pictures")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil { //nolint:gosec // pictures are for all to see
		return fmt.Errorf("write pictures: %w", err)
	}
	for _, c := range cases() {
		s, err := c.play()
		if err != nil {
			return fmt.Errorf("%s: %w", c.file, err)
		}
		path := filepath.Join(*dir, c.file+".svg")
		if err := os.WriteFile(path, []byte(s.draw()), 0o644); err != nil { //nolint:gosec // the same
			return fmt.Errorf("write pictures: %w", err)
		}
		fmt.Println(path)
		for _, t := range s.told {
			fmt.Printf("  %5.1f min  %s\n", t.minute, t.text)
		}
	}
	return nil
}

// play is a case: what happens in a virtual pool, and what of it is to be seen.
type play struct {
	file, title string
	shows       string  // the dimension
	unit        string  // it is shown in
	scale       float64 // one of it in the dimension's unit
	from, until int     // of what happens, in rows
	what        string
	begin, end  func(*sim.World) error
}

const (
	members = 4
	rows    = 1800 // a second each
	victim  = ft.InstanceID("web-2")
)

func cases() []play {
	each := func(do func(*sim.World, ft.InstanceID) error) func(*sim.World) error {
		return func(w *sim.World) error {
			for i := range uint32(members) {
				if err := do(w, ft.NewInstanceID("web", i+1)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	slow := func(d time.Duration) func(*sim.World) error {
		return each(func(w *sim.World, id ft.InstanceID) error { return w.Slow(id, d) })
	}
	load := func(factor float64) func(*sim.World) error {
		return func(w *sim.World) error { w.Load(factor); return nil }
	}
	return []play{
		{
			file: "leak", title: "A leak that is caught", shows: ft.DimAnon, unit: "MiB", scale: 1 << 20,
			from: 900, until: rows, what: "web-2 keeps 64 KiB each second",
			begin: func(w *sim.World) error { return w.Leak(victim, 64<<10) },
		},
		{
			file: "load", title: "A change of load that is left alone", shows: ft.DimCPU, unit: "cores", scale: 1,
			from: 900, until: 1500, what: "twice the load, for ten minutes", begin: load(2), end: load(1),
		},
		{
			file: "pool", title: "An event of the whole pool", shows: ft.DimP50, unit: "ms", scale: 1e-3,
			from: 900, until: 1200, what: "each request of all members waits 20 ms, for five minutes", begin: slow(20 * time.Millisecond), end: slow(0),
		},
	}
}

// story is what came of a case, row by row.
type story struct {
	*play
	shown  [members][]float64     // in the unit that is shown; NaN is missing
	scores [members + 1][]float64 // the last is the pool's; NaN is not judged
	bands  [members + 1][]ft.Verdict
	told   []sentence // what began to be said from Low on: the first of each level and cause
}

// sentence is something that was told.
type sentence struct {
	minute float64
	level  ft.Level
	text   string
}

// play lets a judge see the case.
func (p *play) play() (*story, error) {
	pool := ft.Pool{Name: "web", Image: ft.Image{Command: []string{"web"}}, Size: ft.Sizing{Min: members, Max: members + 1}}
	pool.Defaults()
	w, err := sim.New(pool, sim.Config{Seed: 3})
	if err != nil {
		return nil, err
	}
	judge, err := drift.New(w.Schema(), drift.Config{})
	if err != nil {
		return nil, err
	}
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	w.Advance(now, nil, nil, nil)
	for _, verb := range []ft.Verb{ft.Start, ft.Admit} {
		for i := range uint32(members) {
			w.Do(ft.Action{Verb: verb, Ref: ft.Ref{ID: ft.NewInstanceID("web", i+1), Generation: 1}}, ft.Instance{})
		}
		now = now.Add(5 * time.Second)
		w.Advance(now, nil, nil, nil)
	}
	s := &story{play: p}
	f := &ft.Frame{Schema: w.Schema()}
	for row := range rows {
		switch {
		case row == p.from:
			err = p.begin(w)
		case row == p.until && p.end != nil:
			err = p.end(w)
		}
		if err != nil {
			return nil, err
		}
		now = now.Add(time.Second)
		ins := w.List()
		f.At, f.Rows = now, f.Rows[:0]
		for i := range ins {
			f.Rows = append(f.Rows, ft.Row{
				Slot: ft.Slot(i), Life: ins[i].Ref.Life(), Group: 1, Serving: true, Age: float32(now.Sub(ins[i].Born).Seconds()),
			})
		}
		f.Reset(len(ins))
		w.Advance(now, ins, f, nil)
		s.hear(row, f, judge, judge.Observe(nil, f))
	}
	return s, nil
}

// hear takes in what the judge says of a frame.
func (s *story) hear(row int, f *ft.Frame, judge *drift.Judge, changed []ft.Verdict) {
	column := f.Schema.Index(s.shows)
	scores := judge.Scores(nil)
	for i := range members {
		s.shown[i] = append(s.shown[i], f.Value(i, column)/s.scale)
		s.scores[i] = append(s.scores[i], scores[i].Best())
		s.bands[i] = append(s.bands[i], judge.Verdict(ft.Slot(i)))
	}
	s.scores[members] = append(s.scores[members], scores[0].Pool)
	s.bands[members] = append(s.bands[members], judge.Pool())
	for k := range changed {
		v := &changed[k]
		who := members
		if !v.Pool {
			who = int(v.Slot)
		}
		before := s.bands[who]
		if v.Level < ft.Low || row > 0 && before[row-1].Level >= v.Level && before[row-1].Cause == v.Cause {
			continue
		}
		text, _, _ := drift.Explain(f.Schema, f.Labels, nameOf(who), v)
		s.told = append(s.told, sentence{float64(row) / 60, v.Level, text})
	}
}

// nameOf is that of a member, or of the pool.
func nameOf(who int) string {
	if who == members {
		return "web"
	}
	return string(ft.NewInstanceID("web", uint32(who+1)))
}
