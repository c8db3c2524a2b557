package plan_test

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
)

// A planner in a loop of one's own: facts go in, decisions come out, are kept, folded in, and carried out.
func Example() {
	pool := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Size: ft.Sizing{Min: 1}, Image: ft.Image{Command: []string{"server"}}}
	pool.Defaults()
	s := plan.New(pool)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

	// settle asks for decisions until there are none, and pretends that all actions succeed at once.
	settle := func() {
		for {
			decisions, _ := s.Next(nil, now)
			if len(decisions) == 0 {
				return
			}
			for _, d := range decisions {
				fmt.Println(d)
				if err := s.Apply(d); err != nil {
					panic(err)
				}
				i, ok := d.(*ft.Intended)
				if !ok {
					continue
				}
				done := &ft.Finished{Stamp: ft.Stamp{At: now}, Action: i.Action}
				if i.Action.Verb == ft.Start || i.Action.Verb == ft.FullReset {
					ref := i.Action.Ref
					if i.Action.Verb == ft.FullReset {
						ref.Generation++
					}
					done.Instance = &ft.Instance{Ref: ref, Born: now}
				}
				if err := s.Apply(done); err != nil {
					panic(err)
				}
			}
		}
	}
	settle()
	now = now.Add(time.Hour)
	if err := s.Apply(&ft.Exited{Stamp: ft.Stamp{At: now}, Ref: ft.Ref{ID: "web-1", Generation: 1}, Exit: ft.Exit{Known: true, Signal: 9}}); err != nil {
		panic(err)
	}
	settle()
	v := s.Summary(now)
	fmt.Println(v.Ready, "in service")
	// Output:
	// grow web-1: 1 instances are wanted
	// start web-1: 1 instances are wanted
	// admit web-1: 1 instances are wanted
	// grow web-1 done: after 0s
	// replace web-1: it was killed by signal 9: started anew
	// full-reset web-1: it was killed by signal 9: started anew
	// admit web-1/2: it was killed by signal 9: started anew
	// replace web-1 done: after 0s
	// 1 in service
}
