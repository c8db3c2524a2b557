package telemetry

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func keepConn(address string, c net.Conn) {
	kept[address] = bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
}

// netListen makes a server that echoes and answers with its address; the net package gives no say in the backlog.
func netListen(address string, backlog int) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err.Error()
	}
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err.Error()
	}
	f := os.NewFile(uintptr(fd), address)
	defer f.Close()
	if err := unix.Bind(fd, sa); err != nil {
		return err.Error()
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err.Error()
	}
	l, err := net.FileListener(f)
	if err != nil {
		return err.Error()
	}
	go echo(l, 0)
	return l.Addr().String()
}

// dialBound connects from a port that bind chose, and not connect: so does a listener get its port.
func dialBound(address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), address)
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// Whatever backlog a server listens with: who connects to it is nobody that it calls.
func TestServersAreNoClients(t *testing.T) {
	p := newProbes(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		for _, backlog := range []int{0, 5} {
			t.Run(fmt.Sprintf("%s backlog %d", address, backlog), func(t *testing.T) {
				if l, err := net.Listen("tcp", address); err != nil {
					t.Skip("not here: ", err)
				} else {
					l.Close()
				}
				w := watchNetwork(t, p)
				w.say(fmt.Sprintf("net listen %s %d", address, backlog))
				served := w.hear()
				for _, to := range reached(served) {
					before := w.row()
					for range 3 {
						c := dial(t, to)
						exchange(t, c, 100)
						exchange(t, c, 100)
						c.Close()
					}
					w.until(func(row []float64) bool { return row[colMsgsOut]-before[colMsgsOut] == 6 })
					w.grown(before, map[int]float64{colNetOut: 600, colNetIn: 600, colMsgsOut: 6, colMsgsIn: 6, colAccepts: 3})
				}
				w.noCalls()
				w.wantDestinations()
			})
		}
	}
}

// reached are the addresses of a server; one of all addresses is reached by both families.
func reached(served string) []string {
	at := netip.MustParseAddrPort(served)
	if at.Addr().IsUnspecified() {
		return []string{fmt.Sprintf("127.0.0.1:%d", at.Port()), fmt.Sprintf("[::1]:%d", at.Port())}
	}
	return []string{served}
}

// noCalls fails where calls to others are counted of an instance that only serves.
func (w *watched) noCalls() {
	w.t.Helper()
	if started, failed := w.counts(); started != 0 || failed != 0 {
		w.t.Errorf("%d calls of a server, %d failed", started, failed)
	}
}

// A client may choose its port itself, as a server does.
func TestClientThatChoosesItsPort(t *testing.T) {
	w := watchNetwork(t, newProbes(t))
	address := echoing(t, "127.0.0.1:0")
	before := w.row()
	w.do("net bound " + address)
	w.do("net calls " + address + " 10")
	w.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colConnects: 1, colOutCalls: 10})
	w.wantDestinations(address)
}

// Of connections that are older than the programs themselves, only what is certain counts: no server's as calls.
func TestDirectionOfConnectionsOlderThanThePrograms(t *testing.T) {
	newProbes(t) // skips
	for _, family := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", family)
		if err != nil {
			t.Log("not here: ", err)
			continue
		}
		l.Close()
		for _, backlog := range []int{0, 5} {
			t.Run(fmt.Sprintf("%s backlog %d", family, backlog), func(t *testing.T) { olderThanPrograms(t, family, backlog) })
		}
	}
}

func olderThanPrograms(t *testing.T, family string, backlog int) {
	server, client := newChild(t), newChild(t)
	server.say(fmt.Sprintf("net listen %s %d", family, backlog))
	served := server.hear()
	caller := dial(t, served)
	exchange(t, caller, 100)
	called, bound := echoing(t, family), echoing(t, "127.0.0.1:0")
	client.do("net calls " + called + " 1")
	client.do("net bound " + bound)

	p, err := openProbes(slog.New(slog.DiscardHandler), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	s := &watched{child: server, p: p, reader: attachNetwork(t, p, server.instance())}
	c := &watched{child: client, p: p, reader: attachNetwork(t, p, client.instance())}
	before := s.row()
	exchange(t, caller, 100)
	exchange(t, caller, 100)
	s.until(func(row []float64) bool { return row[colMsgsOut]-before[colMsgsOut] == 2 })
	s.grown(before, map[int]float64{colNetOut: 200, colNetIn: 200, colMsgsOut: 2, colMsgsIn: 2})
	s.noCalls()

	before = c.row()
	c.do("net calls " + called + " 10")
	c.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10, colOutCalls: 10})
	before = c.row()
	c.do("net calls " + bound + " 10") // may be anything
	c.grown(before, map[int]float64{colNetOut: 80, colNetIn: 80, colMsgsOut: 10, colMsgsIn: 10})
	c.wantDestinations(called)

	// One more is new, and known.
	before = s.row()
	exchange(t, dial(t, served), 100)
	s.until(func(row []float64) bool { return row[colMsgsOut]-before[colMsgsOut] == 1 })
	s.grown(before, map[int]float64{colNetOut: 100, colNetIn: 100, colMsgsOut: 1, colMsgsIn: 1, colAccepts: 1})
	s.noCalls()
}
