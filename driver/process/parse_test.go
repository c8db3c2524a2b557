package process

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

func TestListeners(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Log("not on this machine: ", err)
			continue
		}
		defer ln.Close()
		want := ln.Addr().(*net.TCPAddr).AddrPort()
		ls := listeners(os.Getpid())
		i := slices.IndexFunc(ls, func(l listener) bool { return l.addr == want })
		if i < 0 {
			t.Fatalf("%s is not among %v", want, ls)
		}
		if mine, whole := sockets([]int{os.Getpid()}); !mine[ls[i].inode] || !whole {
			t.Errorf("the socket of %s is not found among this process's own", want)
		}
	}
}

// TestListenerOfAnotherProcess has the leader end while somebody else listens on its port.
func TestListenerOfAnotherProcess(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := procfs.ReadStat(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	d, rec := &Driver{}, &record{Env: []string{"FETTLE_DATA=/nowhere"}}
	p := &proc{identity: identity{PID: s.PID, StartTime: s.Start}}
	check := func(when string) {
		t.Helper()
		if got := d.listens(rec, p, port); got != no {
			t.Errorf("%s: answer %d, want no", when, got)
		}
	}
	check("it lives")
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for !p.dying() {
		time.Sleep(time.Millisecond)
	}
	check("it has ended and is not reaped")
	_ = c.Wait()
	check("it is gone")
}

func FuzzParseListener(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1")
	f.Add("   0: 00000000000000000000000001000000:1F90 0:0 0A 0:0 0:0 0 0 0 12345")
	f.Fuzz(func(t *testing.T, line string) {
		if l, ok := parseListener(line); ok && !l.addr.IsValid() {
			t.Errorf("%q gives %v", line, l)
		}
	})
}

// TestNice checks the mapping of weights to priorities: monotone, 100 in the middle, and back again within rounding.
func TestNice(t *testing.T) {
	for _, base := range []int{0, spareNice} {
		if niceOf(usualWeight, base) != base || weightOf(base, base) != usualWeight {
			t.Errorf("weight 100 with base %d is %d, and back %g", base, niceOf(usualWeight, base), weightOf(base, base))
		}
		for n := -20; n <= 19; n++ {
			if got := niceOf(weightOf(n, base), base); weightOf(n, base) > 9 && got != n {
				t.Errorf("priority %d with base %d is weight %g, which is priority %d", n, base, weightOf(n, base), got)
			}
		}
	}
}

func TestPorts(t *testing.T) {
	d := &Driver{ports: map[int]bool{}}
	seen := map[int]bool{}
	for range 50 {
		port, err := d.takePort()
		if err != nil || seen[port] || taken(port) {
			t.Fatalf("port %d, seen %t: %v", port, seen[port], err)
		}
		seen[port] = true
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if !taken(ln.Addr().(*net.TCPAddr).Port) {
		t.Error("a port on which somebody listens is free")
	}
}

// TestEndAtTheLastMoment has a process end between its startup probe and its admission: a failed start, not an event.
func TestEndAtTheLastMoment(t *testing.T) {
	dir := t.TempDir()
	rec := &record{Instance: ft.Instance{Ref: ft.Ref{ID: "web-1", Generation: 1}, Born: time.Now()}, Token: "x", Env: []string{"FETTLE_DATA=" + dir}}
	exit := ft.Exit{Known: true, Code: 3, At: time.Now()}
	p := &proc{done: make(chan struct{})}
	p.finish(exit)
	l := &life{id: "web-1", dir: dir, rec: rec, proc: p, exit: &exit, silent: true}
	s := startup{d: &Driver{}, l: l, rec: rec, proc: p}
	if err := s.admit(ft.Endpoint{}); err == nil || !strings.HasPrefix(err.Error(), "exited with status 3 after") {
		t.Errorf("admitted although it has ended: %v", err)
	}
	if !l.silent {
		t.Error("its end would be told, too")
	}
}
