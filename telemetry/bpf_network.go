package telemetry

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// The columns of network readers, in the order of the dimensions.
const (
	colNetOut = iota
	colNetIn
	colMsgsOut
	colMsgsIn
	colAccepts
	colConnects
	colResent
	colOutCalls
	colOutTime
	colOutFail
	netColumns
)

type network struct {
	p    *Probes
	dims []ft.Dimension
}

// Network is the source that measures the traffic of an instance's whole process tree on sockets of the internet
// families (TCP, UDP and others; loopback included, unix sockets not): bytes and calls that sent and received,
// connections, segments sent again, and how others answer. work says that nothing else tells what the instance is asked
// to do: messages received and connections accepted are load then, and bytes received are intake.
//
// Calls to others are requests on TCP connections that the instance opened: a request begins with the first send after an
// idle time or an answer, and is answered when the first segment of the answer arrives, whether or not the application gets
// to read it (where the kernel has no sk_data_ready: when the application reads it). The time runs from the end of the
// first send, so a large request counts its transfer. Requests that overlap on one connection (HTTP/2, pipelining) count
// as one; each round of a TLS handshake counts too. Failures are connections that were refused or timed out, and requests
// whose connection ended before the answer: reset, closed by the other side, or given up by the instance, unless it
// closed within 10 ms of its last send, which says that it wanted no answer.
//
// What the kernel itself counts of each TCP connection is read at each Batch: bytes in order and without those sent again,
// and segments with data, which are the messages of TCP. They are counted as they leave and arrive, whether or not the
// program has read them. Of other protocols the bytes and calls of the program are counted. A program at each message runs
// only while an instance has use of it, see hooks.
//
// Not seen is what the kernel sends for itself.
func (p *Probes) Network(work bool) ft.Source {
	if why := p.usable(); why != "" {
		return NetworkFallback(work, why)
	}
	return &network{p: p, dims: networkDimensions(work)}
}

func networkDimensions(work bool) []ft.Dimension {
	dims := []ft.Dimension{
		colNetOut:   column(ft.DimNetOut, "B/s", ft.Log1p, ft.Counter),
		colNetIn:    column(ft.DimNetIn, "B/s", ft.Log1p, ft.Counter),
		colMsgsOut:  column(ft.DimMsgsOut, "1/s", ft.Log1p, ft.Counter),
		colMsgsIn:   column(ft.DimMsgsIn, "1/s", ft.Log1p, ft.Counter),
		colAccepts:  column(ft.DimAccepts, "1/s", ft.Log1p, ft.Counter),
		colConnects: column(ft.DimConnects, "1/s", ft.Log1p, ft.Counter),
		colResent:   column(ft.DimResent, "1/s", ft.Log1p, ft.Counter),
		colOutCalls: column(ft.DimCalls, "1/s", ft.Log1p, ft.Counter),
		colOutTime:  column(ft.DimCallTime, "s", ft.Log1p, ft.Gauge),
		colOutFail:  column(ft.DimCallFail, "share", ft.Logit, ft.Gauge),
	}
	if work {
		dims[colMsgsIn].Role, dims[colAccepts].Role, dims[colNetIn].Role = ft.Load, ft.Load, ft.Intake
	}
	return dims
}

func (n *network) Dimensions() []ft.Dimension { return n.dims }

func (n *network) Categories() []ft.CategorySet { return nil }

func (n *network) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	if in.Scope.PID <= 0 {
		return nil, nil, fmt.Errorf("measure the network of %s: it has no process: %w", in.Ref, ft.ErrUnavailable)
	}
	x, err := n.p.acquire(in)
	if err != nil {
		return nil, nil, fmt.Errorf("measure the network of %s: %w", in.Ref, err)
	}
	return &networkReader{p: n.p, slot: x, ref: in.Ref}, nil, nil
}

// Batch implements [ft.Batcher]: the counters of all slots are brought up to date.
func (n *network) Batch(context.Context, time.Time) error { return n.p.tally() }

// Demand implements [ft.Batcher]: it is not known here.
func (n *network) Demand() ft.Demand { return ft.Demand{} }

// Labels implements [ft.Batcher].
func (n *network) Labels() []string { return nil }

// networkReader reads one slot: loads from memory, no system call.
type networkReader struct {
	p    *Probes
	slot *slot
	ref  ft.Ref

	began                    bool
	answered, waited, failed uint64 // at the last read
}

// Read implements [ft.Reader].
func (r *networkReader) Read(_ time.Time, row []float64, _ []uint64) error {
	if r.p.dead.Load() {
		fill(row, math.NaN())
		return nil
	}
	s := r.slot.data
	row[colNetOut] = float64(atomic.LoadUint64(&s.Sent))
	row[colNetIn] = float64(atomic.LoadUint64(&s.Received))
	row[colMsgsOut] = float64(atomic.LoadUint64(&s.Sends))
	row[colMsgsIn] = float64(atomic.LoadUint64(&s.Receives))
	row[colAccepts] = float64(atomic.LoadUint64(&s.Accepted))
	row[colConnects] = float64(atomic.LoadUint64(&s.Opened))
	row[colResent] = float64(atomic.LoadUint64(&s.Resent))
	waited, answered, failed := atomic.LoadUint64(&s.Waited), atomic.LoadUint64(&s.Answered), atomic.LoadUint64(&s.Failed)
	row[colOutCalls] = float64(answered + failed)
	row[colOutTime], row[colOutFail] = math.NaN(), math.NaN()
	if a, f := less(answered, r.answered), less(failed, r.failed); r.began && a+f > 0 {
		row[colOutFail] = float64(f) / float64(a+f)
		if a > 0 {
			row[colOutTime] = float64(less(waited, r.waited)) / float64(a) / 1e9
		}
	}
	r.began, r.answered, r.waited, r.failed = true, answered, waited, failed
	return nil
}

// Missing implements [Reporter].
func (r *networkReader) Missing() ft.Unavailable { return r.p.hooks.missing() }

// Close implements [ft.Reader].
func (r *networkReader) Close() error { return r.p.release(r.slot, r.ref) }
