package telemetry

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
)

// Destination is how one address answers an instance, now (within the last half minute) and usually (an average over
// calls whose weight halves every half hour).
type Destination struct {
	// Address is that of TCP, with its port; "other" for all that have no row of their own.
	Address string
	// Calls per second that were answered or failed; Latency of the answered, seconds, mean, 0 where there were none;
	// Failures is the share of calls that failed.
	Calls, Latency, Failures float64
	// The same as usual; UsualCalls is 0 while it is not known yet.
	UsualCalls, UsualLatency, UsualFailures float64
	// Waiting is the calls that nobody has answered yet.
	Waiting int
	// Slow: answers take more than twice as long as usual, or none come. Failing: more than twice as many as usual fail.
	Slow, Failing bool
}

const (
	// otherRow is the last track: what has no row of its own.
	otherRow = len(bpf.Slot{}.Peers)
	// nowLooks is the looks that now is about.
	nowLooks = 3
	// halfLife of the weight of calls in the usual figures.
	halfLife = 30 * time.Minute
	// usualCalls must have been answered before there is a usual latency.
	usualCalls = 30
	// slowest is how many times the usual latency, and share of failures, may be learnt of one look, so that a
	// dependency that falls ill is not soon taken for usual.
	slowest = 3
	// leastDelay in seconds is what an answer must take longer than usual to be called slow.
	leastDelay = 0.001
)

// counted is a number of calls, and how long the answered took in ns.
type counted struct{ started, answered, waited, failed uint64 }

func (c counted) minus(o counted) counted {
	return counted{less(c.started, o.started), less(c.answered, o.answered), less(c.waited, o.waited), less(c.failed, o.failed)}
}

func (c counted) plus(o counted) counted {
	return counted{c.started + o.started, c.answered + o.answered, c.waited + o.waited, c.failed + o.failed}
}

// past follows the destinations of one slot.
type past struct {
	tracks [otherRow + 1]track
	whole  counted // as of the last look
	at     time.Time
	spans  [nowLooks]float64 // seconds of the last looks
}

// track follows one row.
type track struct {
	address [2]uint64
	port    uint32
	epoch   uint32
	seen    counted // as of the last look
	recent  [nowLooks]counted
	usual   struct{ answered, waited, failed, time float64 } // seconds, decayed
}

// learn takes the figures of the time since the last look at each slot.
func (p *Probes) learn(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.slots {
		if x.past == nil {
			if atomic.LoadUint64(&x.data.Started) == 0 {
				continue
			}
			x.past = &past{at: x.born}
		}
		x.past.look(x.data, now)
	}
}

// look moves the recent figures on by one and learns the usual ones.
func (h *past) look(s *bpf.Slot, now time.Time) {
	span := now.Sub(h.at).Seconds()
	if span <= 0 {
		return
	}
	deltas := h.since(s)
	h.at = now
	copy(h.spans[1:], h.spans[:])
	h.spans[0] = span
	for i := range h.tracks {
		t := &h.tracks[i]
		copy(t.recent[1:], t.recent[:])
		t.recent[0] = deltas[i]
		t.seen = t.seen.plus(deltas[i])
		h.whole = h.whole.plus(deltas[i])
		t.learn(deltas[i], span)
	}
}

// since is what happened in each row since the last look. A row that another destination has by now begins anew.
func (h *past) since(s *bpf.Slot) (d [otherRow + 1]counted) {
	var rows counted
	for i := range s.Peers {
		r, ok := s.Peers[i].Read()
		if !ok {
			continue // the next look sees whose it is
		}
		t := &h.tracks[i]
		if r.Epoch != t.epoch {
			*t = track{epoch: r.Epoch, address: r.Address, port: r.Port}
		}
		d[i] = counted{r.Started, r.Answered, r.Waited, r.Failed}.minus(t.seen)
		rows = rows.plus(d[i])
	}
	whole := counted{
		atomic.LoadUint64(&s.Started), atomic.LoadUint64(&s.Answered), atomic.LoadUint64(&s.Waited), atomic.LoadUint64(&s.Failed),
	}
	d[otherRow] = whole.minus(h.whole).minus(rows)
	return d
}

// learn takes one look into the usual figures.
func (t *track) learn(d counted, span float64) {
	u := &t.usual
	answered, waited, failed := float64(d.answered), float64(d.waited)/1e9, float64(d.failed)
	if u.answered >= usualCalls {
		waited = min(waited, slowest*answered*u.waited/u.answered)
		share := max(u.failed/(u.answered+u.failed), 0.01)
		failed = min(failed, slowest*share*(answered+failed))
	}
	keep := math.Exp2(-span / halfLife.Seconds())
	u.answered = u.answered*keep + answered
	u.waited = u.waited*keep + waited
	u.failed = u.failed*keep + failed
	u.time = u.time*keep + span
}

// Destinations are those that an instance called, by calls, most first; those without a row of their own last. It is empty
// where the instance is not measured, or has called nobody.
func (p *Probes) Destinations(ref ft.Ref) []Destination {
	if p.usable() != "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.refs[ref]
	if x == nil || atomic.LoadUint64(&x.data.Started) == 0 {
		return nil
	}
	if x.past == nil {
		x.past = &past{at: x.born}
	}
	return x.past.tell(x.data, time.Now())
}

// tell makes the list.
func (h *past) tell(s *bpf.Slot, now time.Time) []Destination {
	deltas := h.since(s)
	span := now.Sub(h.at).Seconds()
	for _, v := range h.spans[:nowLooks-1] {
		span += v
	}
	var out []Destination
	for i := range h.tracks {
		t := &h.tracks[i]
		all := t.seen.plus(deltas[i])
		if all == (counted{}) {
			continue
		}
		d := t.judge(t.now(deltas[i]), span)
		d.Waiting = int(less(all.started, all.answered+all.failed))
		if d.Address = "other"; i < otherRow {
			d.Address = address(t.address, t.port)
		}
		d.Slow = d.Slow || d.Waiting > 0 && d.Calls == 0 && t.usual.answered >= usualCalls && span > 5*d.UsualLatency+leastDelay
		out = append(out, d)
	}
	slices.SortStableFunc(out, func(a, b Destination) int {
		switch {
		case a.Address == "other":
			return 1
		case b.Address == "other":
			return -1
		default:
			return cmp.Or(cmp.Compare(b.Calls+b.UsualCalls, a.Calls+a.UsualCalls), cmp.Compare(a.Address, b.Address))
		}
	})
	return out
}

// judge compares the recent figures, of a span of seconds, with the usual ones.
func (t *track) judge(now counted, span float64) Destination {
	var d Destination
	u := &t.usual
	if n := float64(now.answered + now.failed); n > 0 {
		d.Calls = n / max(span, 0.001)
		d.Failures = float64(now.failed) / n
	}
	if now.answered > 0 {
		d.Latency = float64(now.waited) / float64(now.answered) / 1e9
	}
	if n := u.answered + u.failed; u.time > 0 && n > 0 {
		d.UsualCalls, d.UsualFailures = n/u.time, u.failed/n
		d.UsualLatency = u.waited / max(u.answered, 1)
	}
	d.Slow = now.answered > 0 && u.answered >= usualCalls && d.Latency > 2*d.UsualLatency && d.Latency-d.UsualLatency > leastDelay
	d.Failing = now.failed > 2 && d.Failures >= 0.1 && (u.answered < usualCalls || d.Failures > 2*d.UsualFailures)
	return d
}

// now is the recent figures with those since the last look.
func (t *track) now(d counted) counted {
	for _, r := range t.recent[:nowLooks-1] {
		d = d.plus(r)
	}
	return d
}

// address in the usual form: 10.0.0.7:6379, [2001:db8::7]:443.
func address(a [2]uint64, port uint32) string {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], a[0])
	binary.NativeEndian.PutUint64(b[8:], a[1])
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), uint16(port)).String()
}
