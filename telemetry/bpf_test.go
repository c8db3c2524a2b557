package telemetry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

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

func netSend(address string, bytes, writes int) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, bytes/writes)
	for range writes {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_, err = io.Copy(io.Discard, c)
	return err
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
	c := kept[address]
	if c == nil {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		c = bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
		kept[address] = c
	}
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

// echo sends back what comes, each piece after the delay.
func echo(l net.Listener, delay time.Duration) {
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
				time.Sleep(delay)
				if _, err := c.Write(b[:n]); err != nil {
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

// newProbes loads the programs, or skips with the reason.
func newProbes(t testing.TB) *Probes {
	t.Helper()
	p, err := openProbes(slog.New(slog.DiscardHandler), time.Hour)
	if err != nil {
		if os.Geteuid() == 0 && !errors.Is(err, ft.ErrUnavailable) {
			t.Fatal(err)
		}
		t.Skip("no eBPF here: ", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
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

func TestNetworkCountsExactly(t *testing.T) {
	p := newProbes(t)
	w := watchNetwork(t, p)
	address := listen(t, "127.0.0.1:0", func(l net.Listener) { echo(l, 0) })

	before := w.row()
	w.do("net calls " + address + " 100")
	w.grown(before, map[int]float64{colNetOut: 10*8 + 90*9, colNetIn: 10*8 + 90*9, colMsgsOut: 100, colMsgsIn: 100, colConnects: 1, colOutCalls: 100})
}
