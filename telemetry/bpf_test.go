package telemetry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// kept are the connections that commands leave open.
var kept = map[string]*bufio.ReadWriter{}

// obeyNet makes traffic in the child.
//
//	send ADDRESS BYTES WRITES   on a new TCP connection, until the other side closes
//	udp ADDRESS PACKETS BYTES
//	calls ADDRESS N             lines, each answered by one, on a connection that is kept
//	dial ADDRESS N              connections, whatever comes of them
//	ask ADDRESS MS              one line; gives up when no answer came within that time
//	http URL N                  requests by one client
//	serve                       a server that echoes; answers with its address
//	inherited                   the same, with the listener that is descriptor 3
//	echoed                      answers with the bytes that such servers read and wrote
//	listen ADDRESS BACKLOG      the same, with such a backlog
//	bound ADDRESS               a connection from a port that it chose itself, for calls
//	greet                       a server that sends a line to who connects, reads nothing and closes; answers with its address
//	lazy ADDRESS MS             one line, whose answer it reads so much later
//	unix BYTES                  and back, over a unix socket
//	spawn COMMAND               a child of its own does it, and ends
func obeyNet(line string) string {
	f := append(strings.Fields(line), "", "", "", "")
	n, _ := strconv.Atoi(f[2])
	m, _ := strconv.Atoi(f[3])
	var err error
	switch f[0] {
	case "send":
		err = netSend(f[1], n, m)
	case "udp":
		err = netUDP(f[1], n, m)
	case "calls":
		err = netCalls(f[1], n)
	case "dial":
		for range n {
			if c, err := net.DialTimeout("tcp", f[1], time.Second); err == nil {
				c.Close()
			}
		}
	case "ask":
		c, err := net.Dial("tcp", f[1])
		if err != nil {
			return err.Error()
		}
		fmt.Fprintln(c, "hello")
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(n) * time.Millisecond))
		_, _ = c.Read(make([]byte, 100))
		c.Close()
	case "http":
		for range n {
			var r *http.Response
			if r, err = http.Get(f[1]); err != nil {
				break
			}
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
	case "serve":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err.Error()
		}
		go echo(l, 0)
		return l.Addr().String()
	case "inherited":
		l, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return err.Error()
		}
		go echo(l, 0)
	case "echoed":
		return fmt.Sprint(echoedIn.Load(), " ", echoedOut.Load())
	case "listen":
		return netListen(f[1], n)
	case "bound":
		var c net.Conn
		if c, err = dialBound(f[1]); err == nil {
			keepConn(f[1], c)
		}
	case "greet":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err.Error()
		}
		go greet(l)
		return l.Addr().String()
	case "lazy":
		err = netLazy(f[1], n)
	case "unix":
		err = netUnix(n0(f[1]))
	case "spawn":
		k := self()
		k.Stdin = strings.NewReader("net " + strings.TrimPrefix(line, "spawn ") + "\n")
		err = k.Run()
	default:
		return "no such command: " + line
	}
	if err != nil {
		return err.Error()
	}
	return "done"
}

// again is what the mark of a child says after exec.
const again = "again"

// execByThread starts the binary anew in the same process. It returns only on failure.
func execByThread() string {
	os.Setenv(childMark, again)
	failed := make(chan string)
	for range 20 {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() {
				select {} // the first thread; it ends with the others
			}
			failed <- unix.Exec("/proc/self/exe", []string{"child of a test"}, os.Environ()).Error()
		}()
	}
	return <-failed
}

func n0(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func netLazy(address string, ms int) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, "hello")
	time.Sleep(time.Duration(ms) * time.Millisecond)
	_, err = c.Read(make([]byte, 100))
	return err
}

// netUnix sends bytes over a unix socket and back.
func netUnix(n int) error {
	l, err := net.Listen("unix", "@"+strconv.Itoa(os.Getpid()))
	if err != nil {
		return err
	}
	defer l.Close()
	go echo(l, 0)
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, n)
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err = io.ReadFull(c, b)
	return err
}

func netSend(address string, bytes, writes int) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute)) // what is stuck says where
	echoed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		echoed <- err
	}()
	b := make([]byte, bytes/writes)
	for range writes {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	return <-echoed
}

func netUDP(address string, packets, bytes int) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, bytes)
	for range packets {
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := c.Read(b); err != nil {
			return err
		}
	}
	return nil
}

func netCalls(address string, n int) error {
	if kept[address] == nil {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		keepConn(address, conn)
	}
	c := kept[address]
	for i := range n {
		fmt.Fprintf(c, "PING %d\r\n", i)
		if err := c.Flush(); err != nil {
			return err
		}
		if _, err := c.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

// greet sends a line and another to each connection, and closes it.
func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(c, "hello")
		fmt.Fprintln(c, "and goodbye to all that")
		c.Close()
	}
}

// echo sends back what comes, each piece after the delay.
func echo(l net.Listener, delay time.Duration) {
	var d atomic.Int64
	d.Store(int64(delay))
	echoAfter(l, &d)
}

// Bytes that servers of this process read and wrote.
var echoedIn, echoedOut atomic.Int64

func echoAfter(l net.Listener, delay *atomic.Int64) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 1<<16)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				echoedIn.Add(int64(n))
				time.Sleep(time.Duration(delay.Load()))
				n, err = c.Write(b[:n])
				echoedOut.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
}

// listen gives a server in the test's own process, which is no instance.
func listen(t testing.TB, address string, serve func(net.Listener)) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	go serve(l)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// shared are the programs of most tests: loading them takes a while.
var shared struct {
	once sync.Once
	p    *Probes
	err  error
}

// probedTests unloads the programs at the end.
type probedTests struct{ *testing.M }

func (m probedTests) Run() int {
	code := m.M.Run()
	if err := shared.p.Close(); err != nil {
		fmt.Println(err)
		code = max(code, 1)
	}
	return code
}

// newProbes gives the shared programs, or skips with the reason.
func newProbes(t testing.TB) *Probes {
	t.Helper()
	shared.once.Do(func() { shared.p, shared.err = openProbes(slog.New(slog.DiscardHandler), time.Hour) })
	if shared.err != nil {
		t.Skip("no eBPF here: ", shared.err)
	}
	shared.p.hooks.extend(time.Now(), useCalls, useDatagrams) // so that nothing is missed until they are attached
	return shared.p
}

// watched is an instance whose network is measured.
type watched struct {
	*child
	p      *Probes
	reader ft.Reader
}

func watchNetwork(t *testing.T, p *Probes) *watched {
	t.Helper()
	c := newChild(t)
	return &watched{child: c, p: p, reader: attachNetwork(t, p, c.instance())}
}

func attachNetwork(t testing.TB, p *Probes, in ft.Instance) ft.Reader {
	t.Helper()
	r, missing, err := p.Network(true).Attach(in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for name, why := range missing {
		t.Logf("%s: %s", name, why)
	}
	return r
}

func (w *watched) row() []float64 { return netRow(w.t, w.reader) }

func netRow(t testing.TB, r ft.Reader) []float64 {
	t.Helper()
	if n, is := r.(*networkReader); is {
		if err := n.p.tally(); err != nil && !n.p.dead.Load() {
			t.Fatal(err)
		}
	}
	row := make([]float64, netColumns)
	if err := r.Read(time.Now(), row, nil); err != nil {
		t.Fatal(err)
	}
	return row
}

// grown compares columns that only grow.
func (w *watched) grown(before []float64, want map[int]float64) {
	w.t.Helper()
	after := w.row()
	for col := range colOutCalls + 1 {
		name := networkDimensions(false)[col].Name
		if got := after[col] - before[col]; got != want[col] {
			w.t.Errorf("%s grew by %g, want %g", name, got, want[col])
		}
	}
}

func TestNetworkThroughASampler(t *testing.T) {
	p := newProbes(t)
	c := newChild(t)
	s, err := New(slog.New(slog.DiscardHandler), p.Network(false), ProcFS())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := &ft.Frame{Schema: s.Schema()}
	sample := func() {
		f.Reset(1)
		if err := s.Sample(context.Background(), time.Now(), []ft.Instance{c.instance()}, f); err != nil {
			t.Fatal(err)
		}
	}
	address := listen(t, "127.0.0.1:0", func(l net.Listener) { echo(l, 0) })
	const bytes = 8 << 20
	longest := time.Now()
	sample()
	shortest := time.Now()
	c.do(fmt.Sprintf("net send %s %d 64", address, bytes))
	least := time.Since(shortest).Seconds()
	sample()
	most := time.Since(longest).Seconds()
	for _, name := range []string{ft.DimNetOut, ft.DimNetIn} {
		got := f.Value(0, s.Schema().Index(name))
		if !(got >= bytes/most && got <= bytes/least) {
			t.Errorf("%s is %g B/s, want %g to %g", name, got, bytes/most, bytes/least)
		}
	}
	if u := s.Unavailable(c.instance().Ref); len(u) > 0 {
		t.Logf("unavailable: %v", u)
	}
}

func echoing(t testing.TB, address string) string {
	return listen(t, address, func(l net.Listener) { echo(l, 0) })
}

func TestNetworkCountsExactly(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	address := echoing(t, "127.0.0.1:0")
	const lines = 10*8 + 90*9 // bytes of 100 of them

	before := w.row()
	w.do("net calls " + address + " 100")
	w.grown(before, map[int]float64{colNetOut: lines, colNetIn: lines, colMsgsOut: 100, colMsgsIn: 100, colConnects: 1, colOutCalls: 100})

	before = w.row()
	w.do("net calls " + address + " 100") // on the connection that it has
	w.grown(before, map[int]float64{colNetOut: lines, colNetIn: lines, colMsgsOut: 100, colMsgsIn: 100, colOutCalls: 100})

	before = w.row()
	w.do("net udp " + udpEcho(t) + " 50 200")
	w.grown(before, map[int]float64{colNetOut: 10000, colNetIn: 10000, colMsgsOut: 50, colMsgsIn: 50})

	before = w.row()
	w.do("net unix 100")
	w.grown(before, nil)
}

func TestNetworkOfIPv6(t *testing.T) {
	p := newProbes(t)
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: ", err)
	} else {
		l.Close()
	}
	w := watchNetwork(t, p)
	address := echoing(t, "[::1]:0")
	before := w.row()
	w.do("net calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colConnects: 1, colOutCalls: 10})
	w.wantDestinations(address)
}

func TestNetworkOfAServer(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	w.say("net serve")
	address := w.hear()

	before := w.row()
	for range 5 { // connections of two calls each
		c := dial(t, address)
		for range 2 {
			exchange(t, c, 100)
		}
		c.Close()
	}
	w.until(func(row []float64) bool { return row[colNetIn]-before[colNetIn] == 1000 })
	w.grown(before, map[int]float64{colNetOut: 1000, colNetIn: 1000, colMsgsOut: 10, colMsgsIn: 10, colAccepts: 5})

	before = w.row()
	for range 3 {
		dial(t, address).Close() // nothing is sent
	}
	w.until(func(row []float64) bool { return row[colAccepts]-before[colAccepts] == 3 })
	w.grown(before, map[int]float64{colAccepts: 3})
}

func TestNetworkOfAServerThatSpeaksFirst(t *testing.T) {
	w := watchNetwork(t, newProbes(t))
	w.say("net greet")
	address := w.hear()
	before := w.row()
	for range 3 {
		if _, err := io.ReadAll(dial(t, address)); err != nil {
			t.Fatal(err)
		}
	}
	w.grown(before, map[int]float64{colNetOut: 3 * 30, colMsgsOut: 6, colAccepts: 3})
}

// What was connected before the instance was attached to has a direction, but is no new connection.
func TestConnectionsOlderThanTheProbes(t *testing.T) {
	p := newProbes(t)
	c := newChild(t)
	c.say("net serve")
	served := c.hear()
	caller := dial(t, served)
	exchange(t, caller, 100)
	called := echoing(t, "127.0.0.1:0")
	c.do("net calls " + called + " 10")

	w := &watched{child: c, p: p, reader: attachNetwork(t, p, c.instance())}
	before := w.row()
	exchange(t, caller, 100)
	exchange(t, caller, 100)
	w.do("net calls " + called + " 10")
	w.grown(before, map[int]float64{colNetOut: 280, colNetIn: 280, colMsgsOut: 12, colMsgsIn: 12, colOutCalls: 10})
	w.wantDestinations(called)
}

func TestNetworkOfTheWholeTree(t *testing.T) {
	p := newProbes(t)
	address := echoing(t, "127.0.0.1:0")
	c := newChild(t)
	c.do("kid 0") // before the probes; it takes commands by kidnet
	c.do("burnt")
	w := &watched{child: c, p: p, reader: attachNetwork(t, p, c.instance())}

	// The kid is found by a sweep.
	before := w.row()
	w.until(func([]float64) bool {
		w.do("kidnet calls " + address + " 10")
		return w.row()[colOutCalls]-before[colOutCalls] >= 10
	})
	before = w.row()
	w.do("kidnet calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colOutCalls: 10})

	// A child that lives only for this, and a child of a child.
	before = w.row()
	w.do("net spawn calls " + address + " 10")
	w.do("net spawn spawn calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 160, colNetIn: 160, colMsgsOut: 20, colMsgsIn: 20, colConnects: 2, colOutCalls: 20})

	w.do("release")
}

// What is put into an instance's control group counts for it, whoever its parent is.
func TestNetworkOfTheControlGroup(t *testing.T) {
	p := newProbes(t)
	address := echoing(t, "127.0.0.1:0")
	c, guest := newChild(t), newChild(t)
	procs := t.TempDir() + "/cgroup.procs"
	write := func(pids ...int) {
		t.Helper()
		if err := os.WriteFile(procs, []byte(strings.Trim(strings.ReplaceAll(fmt.Sprint(pids), " ", "\n"), "[]")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(c.cmd.Process.Pid)
	in := c.instance()
	in.Scope.CgroupV2 = filepath.Dir(procs)
	w := &watched{child: c, p: p, reader: attachNetwork(t, p, in)}
	p.groups()
	write(c.cmd.Process.Pid, guest.cmd.Process.Pid)
	p.groups()
	before := w.row()
	guest.do("net calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colConnects: 1, colOutCalls: 10})
}

// A thread that is not the first calls exec: the first one ends, and the process goes on as the other.
func TestExecByAThread(t *testing.T) {
	p := newProbes(t)
	address := echoing(t, "127.0.0.1:0")
	w := watchNetwork(t, p)
	w.do("exec")
	w.do("net calls " + address + " 1")
	before := w.row()
	if before[colOutCalls] != 1 {
		t.Errorf("%g calls after exec, want 1", before[colOutCalls])
	}
	w.do("net spawn calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colConnects: 1, colOutCalls: 10})
}

func TestSlotsAreUsedAgain(t *testing.T) {
	p := newProbes(t)
	address := echoing(t, "127.0.0.1:0")
	old := newChild(t)
	r := attachNetwork(t, p, old.instance())
	old.do("net calls " + address + " 10")
	if got := netRow(t, r)[colOutCalls]; got != 10 {
		t.Fatalf("%g calls, want 10", got)
	}
	number := r.(*networkReader).slot.Slot
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// The next ones, until the number comes again.
	var w *watched
	for w == nil {
		c := newChild(t)
		r, _, err := p.Network(true).Attach(c.instance())
		if err != nil {
			t.Fatal(err)
		}
		if r.(*networkReader).slot.Slot == number {
			w = &watched{child: c, p: p, reader: r}
			t.Cleanup(func() { r.Close() })
		} else {
			r.Close()
			c.end()
			time.Sleep(rest / 10)
		}
	}
	before := w.row()
	for col, v := range before[:colOutCalls+1] {
		if v != 0 {
			t.Errorf("column %d of a new owner begins at %g", col, v)
		}
	}
	old.do("net calls " + address + " 10") // by the old owner, on an old connection
	w.grown(before, nil)
	if d := p.Destinations(w.instance().Ref); len(d) != 0 {
		t.Errorf("destinations of the old owner: %v", d)
	}
	w.do("net calls " + address + " 10")
	w.wantDestinations(address)
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends so many bytes and waits for as many.
func exchange(t testing.TB, c net.Conn, n int) {
	t.Helper()
	b := make([]byte, n)
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
}

func udpEcho(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// until waits for a condition on the row.
func (w *watched) until(ok func(row []float64) bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(w.row()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it never came so; the row is %v", w.row())
		}
	}
}

func (w *watched) wantDestinations(want ...string) {
	w.t.Helper()
	var got []string
	for _, d := range w.p.Destinations(w.instance().Ref) {
		got = append(got, d.Address)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("destinations %q, want %q", got, want)
	}
}
