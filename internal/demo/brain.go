package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/internal/daemon"
)

// brain is the daemon that the demo runs.
type brain struct {
	client *client.Client // once ready is closed
	ready  chan struct{}
	stop   context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
	router int   // pid, once known
}

// startBrain runs a daemon for the pool as `fettle up` does, until stopBrain.
func (d *demo) startBrain(p fettle.Pool) *brain {
	ctx, stop := context.WithCancel(context.Background())
	b := &brain{ready: make(chan struct{}), stop: stop, done: make(chan struct{})}
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	go func() {
		defer close(b.done)
		b.err = daemon.Run(ctx, daemon.Options{
			StateDir: filepath.Join(d.dir, "state"), Exe: d.Exe, Version: "demo", Pools: []fettle.Pool{p}, Log: log,
			Event: d.tape.add, Force: d.Force,
			Ready: func(c *client.Client) { b.client = c; close(b.ready) },
		})
	}()
	return b
}

// stopBrain takes everything down and sees to it that no process is left.
func (d *demo) stopBrain() error {
	pids := d.console.PIDs()
	if d.brain.router != 0 {
		pids = append(pids, d.brain.router)
	}
	d.story.show("stopping everything")
	d.brain.stop()
	<-d.brain.done
	var err error
	if e := d.brain.err; e != nil && !errors.Is(e, context.Canceled) {
		err = fmt.Errorf("daemon: %w", e)
	}
	if left := d.reap(pids); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("processes were left and killed: %v", left))
	}
	return err
}

// reap kills those of the demo's processes that still run a moment after the daemon ended: after a failure of the
// daemon. It gives their pids.
func (d *demo) reap(pids []int) []int {
	var left []int
	for range 40 {
		left = left[:0]
		for _, pid := range pids {
			if d.ours(pid) {
				left = append(left, pid)
			}
		}
		if len(left) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended just now
	}
	return left
}

// ours tells whether the pid is still a process of this demo: its command line names the demo's directory.
func (d *demo) ours(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(b), d.dir)
}

// status asks the daemon how the pool is.
func (d *demo) status(ctx context.Context) (api.PoolStatus, error) {
	select {
	case <-d.brain.done:
		return api.PoolStatus{}, fmt.Errorf("the daemon ended: %w", d.brain.err)
	default:
	}
	return d.brain.client.Pool(ctx, poolName)
}

// bringUp waits until all instances are in service and gives the pool's address.
func (d *demo) bringUp(ctx context.Context) (string, error) {
	select {
	case <-d.brain.ready:
	case <-d.brain.done:
		return "", fmt.Errorf("the daemon did not start: %w", d.brain.err)
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if v, err := d.brain.client.Version(ctx); err == nil {
		d.brain.router = v.Router
	}
	var last api.PoolStatus
	ok, err := d.await(ctx, time.Minute, func(s api.PoolStatus) (bool, string) {
		last = s
		return s.Ready >= instances && s.Address != "", fmt.Sprintf("starting: %d of %d instances in service", s.Ready, instances)
	})
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("only %d of %d instances came up: %s%s", last.Ready, instances, last.DegradedWhy, lastErrors(last))
	}
	d.ready = d.since()
	d.story.say(green, "ready", "%d instances in service on http://%s; %.0f requests/s from now on, in waves and bursts, GETs and POSTs", instances, last.Address, d.rate)
	return last.Address, nil
}

func lastErrors(s api.PoolStatus) string {
	var b strings.Builder
	for _, in := range s.Instances {
		if in.LastError != "" {
			fmt.Fprintf(&b, "\n%s: %s", in.ID, in.LastError)
		}
	}
	return b.String()
}

// tellEvents tells the story from the tape until ctx ends; the channel is closed when it has.
func (d *demo) tellEvents(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		n := 0
		for {
			events, more := d.tape.after(n)
			for _, s := range events {
				if d.tellable(s) {
					d.story.tell(s.e)
				}
			}
			n += len(events)
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}()
	return done
}

// tellable leaves out how the first instances come up.
func (d *demo) tellable(s seen) bool {
	switch e := s.e.(type) {
	case *fettle.Finished:
		return e.Action.Kind != fettle.Grow || e.Err != ""
	case *fettle.Opened:
		return e.Kind != fettle.Grow
	case *fettle.Closed:
		return e.Kind != fettle.Grow
	default:
		return true
	}
}

// await asks for the pool's status until the condition holds; false when it did not within the limit. What the
// condition says meanwhile is shown.
func (d *demo) await(ctx context.Context, limit time.Duration, cond func(api.PoolStatus) (bool, string)) (bool, error) {
	tick := time.NewTicker(max(d.interval/2, 100*time.Millisecond))
	defer tick.Stop()
	for until := time.Now().Add(limit); ; {
		s, err := d.status(ctx)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err != nil:
			return false, err
		}
		ok, text := cond(s)
		if ok {
			return true, nil
		}
		if time.Now().After(until) {
			return false, nil
		}
		d.story.show(text + d.figures(s))
		select {
		case <-tick.C:
		case <-d.brain.done:
		case <-ctx.Done():
		}
	}
}

// figures is what the pool does now, for the progress line.
func (d *demo) figures(s api.PoolStatus) string {
	f := s.Figures
	if f.Rate == 0 {
		return ""
	}
	return fmt.Sprintf("  |  %.0f/s  p50 %.1f ms  p99 %.1f ms", f.Rate, 1e3*f.P50, 1e3*f.P99)
}
