package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
	"github.com/fettle-dev/fettle/telemetry/internal/calls"
)

// syscalls is the source of classes of system calls.
type syscalls struct {
	p      *Probes
	config ft.Syscalls
	class  []calls.Class
}

// Syscalls is the source that counts the system calls of an instance's whole process tree by class, in bursts: one
// category set, [ft.SetSyscalls]. Calls of 32 bit programs on a 64 bit kernel count as other. A burst
// is of the whole machine: with several pools the longest burst and the least budget hold for all.
func (p *Probes) Syscalls(c ft.Syscalls) ft.Source {
	if c.Collect != ft.On {
		return Absent("off: telemetry.syscalls.collect", ft.SetSyscalls)
	}
	if why := p.noCalls(); why != "" {
		return Absent(why, ft.SetSyscalls)
	}
	return &syscalls{p: p, config: c, class: calls.Table(bpf.NumCalls)}
}

// noCalls says why system calls cannot be counted; empty where they can.
func (p *Probes) noCalls() string {
	if why := p.usable(); why != "" {
		return why
	}
	return p.set.Missing(bpf.Entered)
}

func (s *syscalls) Dimensions() []ft.Dimension { return nil }

// Categories is one set; its cadence is that at which bursts come when each costs what it is first taken to.
func (s *syscalls) Categories() []ft.CategorySet {
	return []ft.CategorySet{callSet(s.config)}
}

func callSet(c ft.Syscalls) ft.CategorySet {
	every := apart(c.Burst.D(), firstLoss, c.Budget)
	return ft.CategorySet{
		Name: ft.SetSyscalls, Role: ft.Response, Size: len(calls.Classes), Labels: calls.Classes,
		Every: every.Truncate(time.Second) + time.Second,
	}
}

func (s *syscalls) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	if in.Scope.PID <= 0 {
		return nil, nil, fmt.Errorf("count system calls of %s: it has no process: %w", in.Ref, ft.ErrUnavailable)
	}
	x, err := s.p.acquire(in)
	if err == nil {
		var c *bpf.Calls
		if c, err = s.p.claimCalls(x); err == nil {
			s.p.bursts.join(s.config)
			return &callsReader{syscalls: s, slot: x, data: c, ref: in.Ref}, nil, nil
		}
		_ = s.p.release(x, in.Ref) // the failure to claim is what is told
	}
	return nil, nil, fmt.Errorf("count system calls of %s: %w", in.Ref, err)
}

// claimCalls makes room for the system calls of a slot.
func (p *Probes) claimCalls(x *slot) (*bpf.Calls, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.calls != nil {
		return x.calls, nil
	}
	c, err := p.set.ClaimCalls(x.Slot, x.Serial)
	if err == nil {
		x.calls = c
	}
	return c, err
}

// callsReader reads one slot after each burst.
type callsReader struct {
	*syscalls
	slot *slot
	data *bpf.Calls
	ref  ft.Ref
	seen uint64
	sums [calls.Other + 1]uint64
}

// Read implements [ft.Reader]. Between bursts the counts stay as they are.
func (r *callsReader) Read(_ time.Time, _ []float64, counts []uint64) error {
	if seq := r.p.bursts.seq.Load(); seq%2 == 0 && seq != r.seen && !r.p.dead.Load() {
		r.seen = seq
		clear(r.sums[:])
		for i := range r.data.Of {
			r.sums[r.class[i]] += atomic.LoadUint64(&r.data.Of[i])
		}
		r.sums[calls.Other] += atomic.LoadUint64(&r.data.Other)
	}
	copy(counts, r.sums[:])
	return nil
}

// Close implements [ft.Reader].
func (r *callsReader) Close() error {
	r.p.bursts.leave()
	return r.p.release(r.slot, r.ref)
}

// SystemCall is how often an instance made one system call.
type SystemCall struct {
	Name   string
	Class  string
	Number int
	Rate   float64 // per second
}

// CallsNow counts the system calls of an instance by number for a moment, within the budget: it may have to wait for some
// seconds when it was just done. Most frequent first; none where it made none. Everything on the machine that makes system
// calls is slower meanwhile.
func (p *Probes) CallsNow(ctx context.Context, in ft.Instance) ([]SystemCall, error) {
	if why := p.noCalls(); why != "" {
		return nil, fmt.Errorf("count system calls of %s: %s: %w", in.Ref, why, ft.ErrUnavailable)
	}
	if in.Scope.PID <= 0 {
		return nil, fmt.Errorf("count system calls of %s: it has no process: %w", in.Ref, ft.ErrUnavailable)
	}
	x, err := p.acquire(in)
	if err != nil {
		return nil, fmt.Errorf("count system calls of %s: %w", in.Ref, err)
	}
	var out []SystemCall
	if _, err = p.sweep(); err == nil { // its other processes, if nobody measured it before
		out, err = p.callsOf(ctx, x)
	}
	if err = errors.Join(err, p.release(x, in.Ref)); err != nil {
		return nil, fmt.Errorf("count system calls of %s: %w", in.Ref, err)
	}
	return out, nil
}

func (p *Probes) callsOf(ctx context.Context, x *slot) ([]SystemCall, error) {
	c, err := p.claimCalls(x)
	if err != nil {
		return nil, err
	}
	before, from := copyCalls(c), p.bursts.total()
	if err := p.bursts.wait(ctx); err != nil {
		return nil, err
	}
	after, span := copyCalls(c), (p.bursts.total() - from).Seconds()
	class := calls.Table(bpf.NumCalls)
	var out []SystemCall
	for i, n := range after {
		if d := less(n, before[i]); d > 0 {
			s := SystemCall{Name: calls.Name(i), Class: class[min(i, bpf.NumCalls-1)].String(), Number: i, Rate: float64(d) / span}
			if i == bpf.NumCalls {
				s.Name, s.Class, s.Number = "32 bit calls", calls.Other.String(), -1
			}
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b SystemCall) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.Number, b.Number))
	})
	return out, nil
}

// copyCalls copies the counts; the last is of those without a number of their own.
func copyCalls(c *bpf.Calls) []uint64 {
	out := make([]uint64, bpf.NumCalls+1)
	for i := range c.Of {
		out[i] = atomic.LoadUint64(&c.Of[i])
	}
	out[bpf.NumCalls] = atomic.LoadUint64(&c.Other)
	return out
}
