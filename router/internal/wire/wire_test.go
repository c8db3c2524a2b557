package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/latency"
)

func counters(t *rapid.T) Counters {
	u := rapid.Uint64()
	c := Counters{
		Began: u.Draw(t, "began"), Clock: u.Draw(t, "clock"), Arrivals: u.Draw(t, "arrivals"), Rejected: u.Draw(t, "rejected"),
		InFlight: u.Draw(t, "in flight"), Queued: u.Draw(t, "queued"),
		Labels:  rapid.SliceOfN(rapid.String(), 0, Categories-1).Draw(t, "labels"),
		Members: make([]MemberCounters, rapid.IntRange(0, 5).Draw(t, "members")),
	}
	for i := range c.Members {
		m := &c.Members[i]
		m.Ref = ft.Ref{ID: ft.InstanceID(rapid.StringN(1, 20, 60).Draw(t, "id")), Generation: rapid.Uint32().Draw(t, "generation")}
		m.Joined, m.Requests, m.BytesIn, m.BytesOut = u.Draw(t, "v"), u.Draw(t, "v"), u.Draw(t, "v"), u.Draw(t, "v")
		m.Errors, m.Lost, m.InFlight = u.Draw(t, "v"), u.Draw(t, "v"), u.Draw(t, "v")
		m.Offered, m.Busy = rapid.Float64().Draw(t, "v"), rapid.Float64().Draw(t, "v")
		for range rapid.IntRange(0, 5).Draw(t, "buckets") {
			m.Latency[rapid.IntRange(0, latency.Buckets-1).Draw(t, "at")] = u.Draw(t, "v")
			m.Routes[rapid.IntRange(0, Categories-1).Draw(t, "at")] = u.Draw(t, "v")
			m.Status[rapid.IntRange(0, Statuses-1).Draw(t, "at")] = u.Draw(t, "v")
		}
	}
	return c
}

func TestCountersComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var got Counters
		for range 2 { // the second time into what the first left
			c := counters(t)
			b, err := c.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c, got, cmpopts.EquateEmpty()); d != "" {
				t.Fatal(d)
			}
			if cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); (&Counters{}).UnmarshalBinary(b[:cut]) == nil {
				t.Fatalf("%d of %d bytes were taken for whole", cut, len(b))
			}
		}
	})
}

func FuzzCounters(f *testing.F) {
	c := Counters{Labels: []string{"GET /"}, Members: []MemberCounters{{Ref: ft.Ref{ID: "web-1", Generation: 1}, Requests: 3}}}
	c.Members[0].Latency[5] = 3
	b, _ := c.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Counters
		if c.UnmarshalBinary(b) != nil {
			return
		}
		again, err := c.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var d Counters
		if err := d.UnmarshalBinary(again); err != nil {
			t.Fatal(err)
		}
	})
}

func message(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func FuzzControl(f *testing.F) {
	f.Add(message(f, Request{Op: OpHello}))
	f.Add(message(f, Request{Op: OpApply, Table: &Table{
		Pool: "web", Epoch: 3, Interval: 1, Route: ft.Route{Key: &ft.RouteKey{Path: 2}},
		Members: []Member{{Ref: ft.Ref{ID: "web-1", Generation: 1}, Endpoint: ft.Endpoint{Network: "tcp", Address: "127.0.0.1:1"}, Weight: 1}},
	}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var q Request
		if Decode(bytes.NewReader(b), &q) != nil || q.Table == nil || q.Table.Validate() != nil {
			return
		}
		for _, m := range q.Table.Members {
			if m.Weight < 0 || m.Weight > 1 || m.Ref.ID == "" {
				t.Fatalf("a valid table has %+v", m)
			}
		}
	})
}

func TestALyingLengthIsAnError(t *testing.T) {
	for _, b := range [][]byte{{0xff, 0xff, 0xff, 0xff}, {0, 0, 1, 0, '{', '}'}, {0, 0}} {
		var q Request
		if err := Decode(bytes.NewReader(b), &q); err == nil {
			t.Errorf("% x: no error", b)
		}
	}
}

func TestTablesThatCannotBeServedAreRefused(t *testing.T) {
	whole := func() *Table {
		return &Table{Pool: "web", Interval: 1, Members: []Member{{
			Ref: ft.Ref{ID: "web-1", Generation: 1}, Endpoint: ft.Endpoint{Network: "unix", Address: "/x"}, Weight: 0.5,
		}}}
	}
	if err := whole().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Table){
		"name":     func(t *Table) { t.Pool = "" },
		"interval": func(t *Table) { t.Interval = 0 },
		"labels":   func(t *Table) { t.Labels = make([]string, Categories) },
		"twice":    func(t *Table) { t.Members = append(t.Members, t.Members[0]) },
		"weight":   func(t *Table) { t.Members[0].Weight = 1.5 },
		"endpoint": func(t *Table) { t.Members[0].Endpoint = ft.Endpoint{} },
	} {
		c := whole()
		spoil(c)
		if err := c.Validate(); !errors.Is(err, ft.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for _, kind := range []error{ft.ErrDeadline, ft.ErrNotFound, ft.ErrConflict, ft.ErrInvalid, ft.ErrStale, ft.ErrUnavailable} {
		r := Failed(fmt.Errorf("drain web-1: %w", kind))
		if err := r.Error(); !errors.Is(err, kind) || !strings.Contains(err.Error(), "drain web-1") {
			t.Errorf("%v became %v", kind, err)
		}
	}
	r := Failed(io.EOF)
	if r.Error() == nil || (&Reply{}).Error() != nil {
		t.Error("errors without a kind")
	}
}

// The listener that arrives accepts on the same port, and the socket stays non-blocking for both sides.
func TestListenersArriveWithTheirMessageAlsoOnALongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("d", 120), "control.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	var server *net.UnixListener
	if err := At(path, func(p string) (err error) {
		server, err = net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.SetUnlinkOnClose(false)
	defer server.Close()
	var client *net.UnixConn
	if err := At(path, func(p string) (err error) {
		client, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: p, Net: "unix"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	accepted, err := server.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	a, b := NewConn(client), NewConn(accepted)
	defer a.Close()
	defer b.Close()
	if pid, uid, err := b.Peer(); err != nil || pid != os.Getpid() || uid != os.Getuid() {
		t.Fatalf("peer %d, %d, %v", pid, uid, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	big := Request{Op: OpApply, Pool: ft.PoolName(strings.Repeat("x", 1<<20)), Listener: true}
	go func() {
		for range 3 {
			if err := a.Send(&big, l.(*net.TCPListener)); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 3 {
		var q Request
		if err := b.Receive(&q); err != nil || len(q.Pool) != 1<<20 {
			t.Fatalf("%d bytes, %v", len(q.Pool), err)
		}
		got, err := b.Listener()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
			}
		}()
		c, err := got.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		got.Close()
	}
	if _, err := b.Listener(); err == nil {
		t.Error("a listener that nobody sent")
	}
	// A deadline works only while the shared socket is non-blocking.
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}
