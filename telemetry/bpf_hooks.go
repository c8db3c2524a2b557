package telemetry

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
)

// use is what programs at each message are for.
type use int

const (
	useCalls     use = iota // an instance has opened TCP connections: how they are answered
	useDatagrams            // an instance has sockets of other protocols: their bytes
	useUnclear              // a listener is more than one instance's: who takes its connections
	numUses
)

// usePrograms are those of each use. An answer can arrive before the program that follows the send has run: it is seen when it
// is read, as where the kernel has no sk_data_ready.
var usePrograms = [numUses][]bpf.Program{
	useCalls:     {bpf.Sent, bpf.Received, bpf.Ready},
	useDatagrams: {bpf.Sent, bpf.Received},
	useUnclear:   {bpf.Sent, bpf.Received},
}

// linger is how long programs stay after their use was seen last: who calls others once in some minutes is seen whole.
const linger = 10 * time.Minute

// hooks attaches the programs that run at each message of the whole machine while some instance has use of them, and only then:
// also one that does nothing costs a busy server more than a hundredth of its time. It learns of uses from the programs
// at changes of state, which are cheap: of the first connection that is opened at once, of all else at each pass over the
// open files.
type hooks struct {
	log *slog.Logger
	set *bpf.Set

	mu    sync.Mutex
	until [numUses]time.Time
	err   error // of the last time that programs were attached
}

func (h *hooks) init(log *slog.Logger, set *bpf.Set) { h.log, h.set = log, set }

// wait attaches what calls need when the first connection is opened.
func (h *hooks) wait() {
	for h.set.Opened() == nil {
		h.extend(time.Now(), useCalls)
	}
}

// extend says that there is use now.
func (h *hooks) extend(now time.Time, of ...use) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range of {
		h.until[u] = now.Add(linger)
	}
	h.apply(now)
}

// review detaches what is of no more use.
func (h *hooks) review(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.apply(now)
}

// apply attaches and detaches; h.mu is held.
func (h *hooks) apply(now time.Time) {
	var want []bpf.Program
	for u, until := range h.until {
		if now.Before(until) {
			want = append(want, usePrograms[u]...)
		}
	}
	calls := now.Before(h.until[useCalls])
	if !calls {
		h.set.WatchCalls(false) // before nobody looks, so that none is opened unseen
	}
	err := h.set.Demand(want...)
	if calls && err == nil {
		h.set.WatchCalls(true)
	}
	if err != nil && h.err == nil {
		h.log.Warn("cannot watch calls to others", "err", err)
	}
	h.err = err
}

// missing are the columns that need programs which could not be attached.
func (h *hooks) missing() ft.Unavailable {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		return nil
	}
	u := ft.Unavailable{}
	for _, d := range []string{ft.DimCalls, ft.DimCallTime, ft.DimCallFail} {
		u[d] = "eBPF: " + h.err.Error()
	}
	return u
}

// watching are the uses that there are now.
func (h *hooks) watching(now time.Time) (of []use) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for u, until := range h.until {
		if now.Before(until) {
			of = append(of, use(u))
		}
	}
	return of
}

// tally brings the counters of all slots up to date.
func (p *Probes) tally() error {
	if p.dead.Load() {
		return fmt.Errorf("the eBPF programs were unloaded: %w", ft.ErrUnavailable)
	}
	opened, err := p.set.Tally()
	if err != nil {
		return err
	}
	if now := time.Now(); opened > 0 && !slices.Contains(p.hooks.watching(now.Add(linger/2)), useCalls) {
		p.hooks.extend(now, useCalls)
	}
	return nil
}

// found takes what a pass over open files found.
func (p *Probes) found(s bpf.Sockets, err error) {
	if err != nil {
		p.log.Debug("look for the sockets of instances", "err", err)
		return
	}
	var of []use
	for u, n := range [numUses]int{s.Opened, s.Datagrams, s.Unclear} {
		if n > 0 {
			of = append(of, use(u))
		}
	}
	if len(of) > 0 {
		p.hooks.extend(time.Now(), of...)
	}
}
