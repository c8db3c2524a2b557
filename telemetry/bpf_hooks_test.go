package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// ownProbes are of one test: what is attached is its own affair.
func ownProbes(t *testing.T) *Probes {
	t.Helper()
	newProbes(t) // skips
	p, err := openProbes(slog.New(slog.DiscardHandler), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// uses fails unless programs at messages run for just that.
func (w *watched) uses(want ...use) {
	w.t.Helper()
	if got := w.p.hooks.watching(time.Now()); !slices.Equal(got, want) {
		w.t.Errorf("programs at each message for %v, want %v", got, want)
	}
}

// whole makes a pass over all files, as there is one now and then.
func (w *watched) whole() {
	w.t.Helper()
	s, err := w.p.set.PassAll()
	if err != nil {
		w.t.Fatal(err)
	}
	w.p.found(s, nil)
}

// Connections that come and go, of any size, are counted to the byte of what the server itself counted, without a program
// at any message.
func TestServedBytesAreThoseOfTheProgram(t *testing.T) {
	w := watchNetwork(t, ownProbes(t))
	w.say("net serve")
	address := w.hear()
	const connections = 40
	var all sync.WaitGroup
	for range connections {
		all.Go(func() { bulk(t, address, rand.IntN(1<<20)) })
	}
	ended := make(chan bool)
	go func() {
		all.Wait()
		close(ended)
	}()
	for open := true; open; { // looks go on meanwhile
		select {
		case <-ended:
			open = false
		case <-time.After(time.Millisecond):
			w.row()
		}
	}
	var in, out float64
	w.until(func([]float64) bool { // it counts what it wrote once that is done
		w.say("net echoed")
		_, err := fmt.Sscan(w.hear(), &in, &out)
		return err == nil && in == out
	})
	row := w.row()
	if row[colNetIn] != in || row[colNetOut] != out || row[colAccepts] != connections {
		t.Errorf("received %.0f, sent %.0f, accepted %.0f; the server says %.0f, %.0f, %d", row[colNetIn], row[colNetOut], row[colAccepts], in, out, connections)
	}
	if row[colMsgsIn] < connections || row[colMsgsOut] < connections {
		t.Errorf("%.0f messages received, %.0f sent on %d connections", row[colMsgsIn], row[colMsgsOut], connections)
	}
	w.noCalls()
	w.whole()
	w.uses()
}

// bulk has so many bytes echoed. Some connections end by a reset.
func bulk(t *testing.T, address string, n int) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if n%4 == 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	go func() { _, _ = c.Write(make([]byte, n+1)) }()
	if _, err := io.CopyN(io.Discard, c, int64(n+1)); err != nil {
		t.Error(err)
	}
}

// Programs at messages come with the first connection that is opened, go when none was there for long, and come again.
func TestProgramsRunWhileTheyAreOfUse(t *testing.T) {
	w := watchNetwork(t, ownProbes(t))
	address := echoing(t, "127.0.0.1:0")
	w.row()
	w.uses()
	w.do("net calls " + address + " 1")
	w.until(func([]float64) bool { return len(w.p.hooks.watching(time.Now())) == 1 })
	w.p.hooks.review(time.Now()) // it is done with attaching
	before := w.row()
	w.do("net calls " + address + " 100")
	w.grown(before, map[int]float64{colNetOut: 890, colNetIn: 890, colMsgsOut: 100, colMsgsIn: 100, colOutCalls: 100})
	w.wantDestinations(address)

	w.p.hooks.review(time.Now().Add(2 * linger))
	before = w.row()
	w.do("net calls " + address + " 10")
	if got := w.row()[colOutCalls] - before[colOutCalls]; got != 0 {
		t.Errorf("%g calls were seen by programs that ought to be gone", got)
	}
	w.until(func([]float64) bool {
		before := w.row()
		w.do("net dial " + address + " 1")
		w.do("net calls " + address + " 10")
		return w.row()[colOutCalls]-before[colOutCalls] >= 10
	})
}

// What was connected before the instance was attached to is of use at once.
func TestOlderCallsAreSeenAtOnce(t *testing.T) {
	p := ownProbes(t)
	c := newChild(t)
	address := echoing(t, "127.0.0.1:0")
	c.do("net calls " + address + " 1")
	w := &watched{child: c, p: p, reader: attachNetwork(t, p, c.instance())}
	w.uses(useCalls)
	before := w.row()
	w.do("net calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colOutCalls: 10})
}

// A listener that two instances hold is nobody's: a connection is of the instance that takes it.
func TestListenerOfTwoInstances(t *testing.T) {
	p := ownProbes(t)
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(t.Context(), "tcp", "127.83.11.7:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var both []*watched
	for i := range 2 {
		cmd := self()
		cmd.ExtraFiles = []*os.File{f}
		c := newChildAs(t, cmd)
		in := c.instance()
		in.Ref.ID = ft.InstanceID(fmt.Sprint("web-", i))
		both = append(both, &watched{child: c, p: p, reader: attachNetwork(t, p, in)})
	}
	a, b := both[0], both[1]
	a.whole()
	a.uses(useUnclear)
	b.do("net inherited") // only this one accepts
	before, other := b.row(), a.row()
	for range 3 {
		c := dial(t, l.Addr().String())
		exchange(t, c, 1000)
		c.Close()
	}
	b.until(func(row []float64) bool { return row[colNetIn]-before[colNetIn] == 3000 })
	b.grown(before, map[int]float64{colNetOut: 3000, colNetIn: 3000, colMsgsOut: 3, colMsgsIn: 3, colAccepts: 3})
	a.grown(other, nil)

	// Once the other one is gone it is this one's, and nothing has to be watched.
	a.end()
	if err := a.reader.Close(); err != nil {
		t.Fatal(err)
	}
	b.whole()
	b.whole()
	p.hooks.review(time.Now().Add(2 * linger))
	before = b.row()
	exchange(t, dial(t, l.Addr().String()), 1000)
	b.until(func(row []float64) bool { return row[colNetIn]-before[colNetIn] == 1000 })
	b.grown(before, map[int]float64{colNetOut: 1000, colNetIn: 1000, colMsgsOut: 1, colMsgsIn: 1, colAccepts: 1})
}
