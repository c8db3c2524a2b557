package main

import (
	"context"
	"fmt"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// leastCounted is how long system calls are counted at least when they are asked for.
const leastCounted = 200 * time.Millisecond

// topCalls is how many system calls are printed.
const topCalls = 15

// countCalls counts the system calls of the instance that is explained.
func countCalls(ctx context.Context, cl *client.Client, e *explanation) (err error) {
	if e.Instance == nil {
		of := "it has none"
		if len(e.Peers) > 0 {
			of = fmt.Sprintf("name one, such as %s", e.Peers[0].ID)
		}
		return fmt.Errorf("--syscalls counts those of one instance and %s is a pool: %s: %w", e.Name, of, fettle.ErrInvalid)
	}
	if e.Syscalls, err = cl.Syscalls(ctx, e.Instance.ID); err == nil && e.Syscalls == nil {
		e.Syscalls = []api.SystemCall{}
	}
	return err
}

// printDestinations shows whom an instance calls; the slow and failing ones are marked.
func (c *cli) printDestinations(p paint, list []api.Destination) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(c.out)
	t := newTable(p, "CALLS TO", ">RATE", ">LATENCY", ">USUAL", ">FAILURES", ">USUAL", ">WAITING", "")
	for i := range list {
		d := &list[i]
		usualLatency, usualFailures := "-", "-"
		if d.UsualCalls > 0 {
			usualLatency, usualFailures = latency(d.UsualLatency), quantity(d.UsualFailures, "share")
		}
		failures := "-"
		if d.Calls > 0 {
			failures = quantity(d.Failures, "share")
		}
		t.row(d.Address, quantity(d.Calls, "1/s"), latency(d.Latency), usualLatency, failures, usualFailures,
			fmt.Sprint(d.Waiting), mark(p, d))
	}
	t.print(c.out, "  ")
}

// mark says what is wrong with a destination.
func mark(p paint, d *api.Destination) string {
	switch {
	case d.Slow && d.Calls == 0:
		return p.red("does not answer")
	case d.Slow && d.Failing:
		return p.red("slow, fails")
	case d.Slow:
		return p.red("slow")
	case d.Failing:
		return p.red("fails")
	default:
		return ""
	}
}

// printSyscalls shows what was counted; nil where nobody asked.
func (c *cli) printSyscalls(p paint, list []api.SystemCall) {
	if list == nil {
		return
	}
	fmt.Fprintln(c.out)
	if len(list) == 0 {
		c.say("  SYSTEM CALL  none within %s", leastCounted)
		return
	}
	var all float64
	for _, s := range list {
		all += s.Rate
	}
	t := newTable(p, "SYSTEM CALL", "CLASS", ">RATE", ">SHARE")
	for _, s := range list[:min(len(list), topCalls)] {
		t.row(s.Name, s.Class, quantity(s.Rate, "1/s"), quantity(s.Rate/all, "share"))
	}
	t.print(c.out, "  ")
	if n := len(list) - topCalls; n > 0 {
		c.say("  and %d others", n)
	}
}
