package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
)

// destination is the one of that address.
func (w *watched) destination(address string) Destination {
	w.t.Helper()
	for _, d := range w.p.Destinations(w.instance().Ref) {
		if d.Address == address {
			return d
		}
	}
	w.t.Fatalf("no destination %s in %v", address, w.p.Destinations(w.instance().Ref))
	return Destination{}
}

// failing gives a server that does something to each connection once a line has come, and the address of none.
func failing(t *testing.T, do func(net.Conn)) string {
	return listen(t, "127.0.0.1:0", func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 100))
			do(c)
		}
	})
}

// unserved gives an address where nobody listens.
func unserved(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestFailedCalls(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	nobody := unserved(t)
	resets := failing(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() })
	closes := failing(t, func(c net.Conn) { c.Close() })
	silent := failing(t, func(net.Conn) {})
	answers := failing(t, func(c net.Conn) { fmt.Fprintln(c, "bye"); c.Close() })
	for _, tc := range []struct {
		what, command         string
		begun, failed, opened float64
	}{
		{"refused", "dial " + nobody + " 3", 3, 3, 0},
		{"reset", "ask " + resets + " 5000", 1, 1, 1},
		{"closed before the answer", "ask " + closes + " 5000", 1, 1, 1},
		{"given up", "ask " + silent + " 50", 1, 1, 1},
		{"answered and closed at once", "ask " + answers + " 5000", 1, 0, 1},
	} {
		before := w.row()
		started, failed := w.counts()
		w.do("net " + tc.command)
		after := w.row()
		if got := after[colConnects] - before[colConnects]; got != tc.opened {
			t.Errorf("%s: %g connections opened, want %g", tc.what, got, tc.opened)
		}
		s, f := w.counts()
		if float64(f-failed) != tc.failed {
			t.Errorf("%s: %d failures, want %g", tc.what, f-failed, tc.failed)
		}
		if float64(s-started) != tc.begun {
			t.Errorf("%s: %d calls begun, want %g", tc.what, s-started, tc.begun)
		}
	}
	row := w.row()
	if got := row[colOutCalls]; got != 7 {
		t.Errorf("%g calls in all, want 6 failed and 1 answered", got)
	}
	// Who closes at once wanted no answer; a busy machine may take its time.
	for try := 0; ; try++ {
		started, failed := w.counts()
		w.do("net ask " + silent + " 0")
		if s, f := w.counts(); s == started && f == failed {
			break
		}
		if try == 50 {
			t.Fatal("a connection that is closed at once is taken for a failed call")
		}
	}
	for _, d := range p.Destinations(w.instance().Ref) {
		if d.Waiting != 0 {
			t.Errorf("still waiting: %+v", d)
		}
	}
	if d := w.destination(nobody); d.Failures != 1 || !d.Failing || d.Waiting != 0 {
		t.Errorf("where nobody listens: %+v", d)
	}
}

// counts are the calls begun and failed so far.
func (w *watched) counts() (started, failed uint64) {
	s := w.reader.(*networkReader).slot.data
	return atomic.LoadUint64(&s.Started), atomic.LoadUint64(&s.Failed)
}

func TestFailuresAndLatencyInTheFrame(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	delay := 20 * time.Millisecond
	address := listen(t, "127.0.0.1:0", func(l net.Listener) { echo(l, delay) })
	nobody := unserved(t)
	w.row()
	w.do("net calls " + address + " 15")
	w.do("net dial " + nobody + " 5")
	row := w.row()
	if got := row[colOutTime]; !(got >= delay.Seconds()) {
		t.Errorf("latency %g s, the server waits %s", got, delay)
	}
	if got := row[colOutFail]; got != 0.25 {
		t.Errorf("%g of the calls failed, want 5 of 20", got)
	}
	if row = w.row(); !math.IsNaN(row[colOutTime]) || !math.IsNaN(row[colOutFail]) {
		t.Errorf("without calls: latency %g, failures %g, want both missing", row[colOutTime], row[colOutFail])
	}
}

// The answer counts when it arrives, not when the application reads it.
func TestLatencyIsNotThatOfTheReader(t *testing.T) {
	p := newProbes(t)
	if why := p.set.Missing(bpf.Ready); why != "" {
		t.Skip(why)
	}
	w := watchNetwork(t, p)
	address := echoing(t, "127.0.0.1:0")
	w.row()
	w.do("net lazy " + address + " 1000")
	if got := w.row()[colOutTime]; !(got < 1) {
		t.Errorf("latency %g s, but the application read the answer only 1 s later", got)
	}
}

func TestSlowDependencyIsSeen(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	var delay atomic.Int64
	redis := listen(t, "127.0.0.1:0", func(l net.Listener) { echoAfter(l, &delay) })
	other := listen(t, "127.0.0.1:0", func(l net.Listener) { echo(l, 20*time.Millisecond) })
	for range 3 {
		w.do("net calls " + redis + " 50")
		w.do("net calls " + other + " 12")
		p.learn(time.Now())
	}
	for _, address := range []string{redis, other} {
		if d := w.destination(address); d.Slow || d.Failing || d.UsualCalls == 0 || d.UsualLatency == 0 {
			t.Errorf("as usual: %+v", d)
		}
	}
	delay.Store(int64(60 * time.Millisecond))
	for range 4 { // what is recent is slow by then
		w.do("net calls " + redis + " 8")
		w.do("net calls " + other + " 12")
		p.learn(time.Now())
	}
	if d := w.destination(redis); !d.Slow || d.Latency < 0.06 {
		t.Errorf("slow: %+v", d)
	}
	if d := w.destination(other); d.Slow {
		t.Errorf("not slow: %+v", d)
	}
}

func TestPooledHTTPClient(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	address := listen(t, "127.0.0.1:0", func(l net.Listener) {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	})
	before := w.row()
	w.do("net http http://" + address + "/ 20")
	after := w.row()
	if c, n := after[colConnects]-before[colConnects], after[colOutCalls]-before[colOutCalls]; c != 1 || n != 20 {
		t.Errorf("%g connections and %g calls, want 1 and 20", c, n)
	}
}

// Those with most calls have rows of their own, whoever came first.
func TestDestinationsWithMostCalls(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	var many []string
	for range otherRow + 4 {
		many = append(many, echoing(t, "127.0.0.1:0"))
	}
	for _, address := range many {
		w.do("net calls " + address + " 2")
	}
	last := many[len(many)-1]
	w.do("net calls " + last + " 500")
	list := p.Destinations(w.instance().Ref)
	if len(list) != otherRow+1 || list[otherRow].Address != "other" {
		t.Errorf("%d destinations: %v", len(list), list)
	}
	if list[0].Address != last {
		t.Errorf("most calls go to %s, not to %s", last, list[0].Address)
	}
	if got := w.row()[colOutCalls]; got != float64(2*len(many)+500) {
		t.Errorf("%g calls in all, want %d", got, 2*len(many)+500)
	}
}

// A connection request that nobody takes is sent again after a second.
func TestRetransmits(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	dial(t, address) // the queue of one is full
	w.say("net ask " + address + " 10")
	w.until(func(row []float64) bool { return row[colResent] >= 1 })
}

func TestReadersAfterClose(t *testing.T) {
	newProbes(t) // skips
	p, err := openProbes(slog.New(slog.DiscardHandler), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := newChild(t)
	r, _, err := p.Network(true).Attach(c.instance())
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := p.Network(false).Attach(c.instance()) // another pool's, or another sampler's
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if row := netRow(t, again); row[colNetOut] != 0 {
		t.Errorf("the other reader reads %v", row)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if row := netRow(t, again); !math.IsNaN(row[colNetOut]) {
		t.Errorf("after Close it reads %v", row)
	}
	if p.Destinations(c.instance().Ref) != nil {
		t.Error("destinations after Close")
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	_, missing, err := p.Network(true).Attach(c.instance())
	if err != nil || missing[ft.DimNetOut] == "" {
		t.Errorf("attached after Close: %v, %v", missing, err)
	}
}

// Whatever happens in the rows: nothing is counted twice, and nothing is lost but what waits.
func TestDestinationsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, h, at := &bpf.Slot{}, &past{}, time.Unix(1, 0)
		h.at = at
		var learnt counted
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			row := &s.Peers[rapid.IntRange(0, otherRow-1).Draw(t, "row")]
			n := rapid.Uint64Range(0, 1000).Draw(t, "calls")
			switch rapid.SampledFrom([]string{"call", "fail", "evict", "other", "look"}).Draw(t, "what") {
			case "call":
				row.Port = max(row.Port, 80)
				row.Started, row.Answered, row.Waited = row.Started+n, row.Answered+n, row.Waited+n*1000
				s.Started, s.Answered, s.Waited = s.Started+n, s.Answered+n, s.Waited+n*1000
			case "fail":
				row.Port = max(row.Port, 80)
				row.Started, row.Failed = row.Started+n, row.Failed+n
				s.Started, s.Failed = s.Started+n, s.Failed+n
			case "other":
				s.Started, s.Answered, s.Waited = s.Started+n, s.Answered+n, s.Waited+n*1000
			case "evict":
				*row = bpf.Peer{Epoch: row.Epoch + 2, Port: row.Port + 1}
			case "look":
				at = at.Add(10 * time.Second)
				d := h.since(s)
				for _, c := range d {
					learnt = learnt.plus(c)
				}
				h.look(s, at)
			}
			for _, d := range h.tell(s, at.Add(time.Second)) {
				if d.Calls < 0 || d.Failures < 0 || d.Failures > 1 || math.IsNaN(d.Latency) || d.Waiting < 0 {
					t.Fatalf("impossible: %+v", d)
				}
			}
		}
		for _, c := range h.since(s) {
			learnt = learnt.plus(c)
		}
		whole := counted{s.Started, s.Answered, s.Waited, s.Failed}
		if learnt.answered > whole.answered || learnt.failed > whole.failed {
			t.Fatalf("counted %+v of %+v", learnt, whole)
		}
	})
}

// The kernel gives rows to other destinations while they are looked at: what is told of one is never another's.
func TestDestinationsThatChangeHands(t *testing.T) {
	s := &bpf.Slot{}
	r := &s.Peers[0]
	var end atomic.Bool
	var all sync.WaitGroup
	all.Go(func() { // as settle of probes.c does
		for n := uint64(1); !end.Load(); n++ {
			atomic.AddUint32(&r.Epoch, 1)
			atomic.StoreUint64(&r.Address[0], n)
			atomic.StoreUint64(&r.Address[1], n)
			for _, c := range []*uint64{&r.Started, &r.Answered, &r.Waited, &r.Failed} {
				atomic.StoreUint64(c, 0)
			}
			atomic.StoreUint32(&r.Port, uint32(n%60000+1))
			atomic.AddUint32(&r.Epoch, 1)
			atomic.AddUint64(&r.Started, 2)
			atomic.AddUint64(&r.Answered, 2)
			atomic.AddUint64(&r.Waited, 2*n)
		}
	})
	h, seen := &past{}, 0
	for range 10_000 {
		h.since(s)
		now, ok := r.Read()
		if !ok {
			continue
		}
		n := now.Address[0]
		if a, w := now.Answered, now.Waited; now.Address[1] != n || n > 0 && uint64(now.Port) != n%60000+1 || w != 0 && w != 2*n || a != 0 && a != 2 {
			t.Errorf("a mixture: %+v", now)
			break
		}
		if k := &h.tracks[0]; k.address[0] != k.address[1] || k.port != 0 && uint64(k.port) != k.address[0]%60000+1 || k.epoch%2 == 1 {
			t.Errorf("a mixture is followed: %+v", k)
			break
		}
		if now.Waited != 0 {
			seen++
		}
	}
	end.Store(true)
	all.Wait()
	if seen == 0 {
		t.Error("the row was never seen with its calls")
	}
}

// A row that changes hands for longer than one waits is left out of a look, and what it counts later is not lost.
func TestDestinationThatIsReplacedJustNow(t *testing.T) {
	s, h := &bpf.Slot{}, &past{at: time.Unix(1, 0)}
	r := &s.Peers[3]
	*r = bpf.Peer{Epoch: 2, Port: 80, Started: 5, Answered: 5}
	s.Started, s.Answered = 5, 5
	h.look(s, time.Unix(11, 0))
	r.Epoch, r.Started, r.Answered = 3, 0, 0
	h.look(s, time.Unix(21, 0))
	if d := h.tell(s, time.Unix(22, 0)); len(d) != 1 || h.tracks[3].port != 80 {
		t.Errorf("while it is replaced: %+v", d)
	}
	*r = bpf.Peer{Epoch: 4, Port: 81, Started: 7, Answered: 7}
	s.Started, s.Answered = 12, 12
	h.look(s, time.Unix(31, 0))
	if k := &h.tracks[3]; k.port != 81 || k.seen.answered != 7 || h.whole.answered != 12 || h.tracks[otherRow].seen != (counted{}) {
		t.Errorf("afterwards: %+v, in all %+v", k, h.whole)
	}
}

func BenchmarkNetworkRead1000(b *testing.B) {
	p := newProbes(b)
	in := ft.Instance{Ref: ft.Ref{ID: "web-1", Generation: 1}, Scope: ft.Scope{PID: unix.Getpid()}}
	var readers []*networkReader
	p.mu.Lock()
	for i := range 1000 { // slots without processes: reading does not look at those
		x, err := p.claim(lead{-i - 1, 1})
		if err != nil {
			b.Fatal(err)
		}
		x.users++
		readers = append(readers, &networkReader{p: p, slot: x, ref: in.Ref})
	}
	p.mu.Unlock()
	row := make([]float64, netColumns)
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range readers {
			_ = r.Read(time.Time{}, row, nil)
		}
	}
	b.StopTimer()
	for _, r := range readers {
		_ = r.Close()
	}
}
