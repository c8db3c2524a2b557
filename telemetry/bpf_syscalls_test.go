package telemetry

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/calls"
)

func TestSystemCallsAreCountedWhileABurstRuns(t *testing.T) {
	p := newProbes(t)
	if why := p.noCalls(); why != "" {
		t.Skip(why)
	}
	c := newChild(t)
	s := p.Syscalls(ft.Syscalls{Collect: ft.On, Budget: 0.5, Burst: ft.Duration(50 * time.Millisecond)})
	if sets := s.Categories(); len(sets) != 1 || sets[0].Name != ft.SetSyscalls || sets[0].Size != len(sets[0].Labels) || sets[0].Role != ft.Response {
		t.Fatalf("sets: %+v", sets)
	}
	r, missing, err := s.Attach(c.instance())
	if err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	defer r.Close()
	read := func() []uint64 {
		counts := make([]uint64, len(calls.Classes))
		if err := r.Read(time.Now(), nil, counts); err != nil {
			t.Fatal(err)
		}
		return counts
	}
	// Bursts come by themselves, and what is called in them is seen in its class.
	before := read()
	for end := time.Now().Add(20 * time.Second); read()[calls.Process] < before[calls.Process]+1000; {
		if time.Now().After(end) {
			t.Fatalf("no burst saw the calls: %v", read())
		}
		c.do("calls 100000")
	}
	if after := read(); after[calls.Network] != before[calls.Network] {
		t.Errorf("calls of sockets were counted, none were made: %v, then %v", before, after)
	}
}

func TestSystemCallsByNumberExactly(t *testing.T) {
	p := newProbes(t)
	if why := p.noCalls(); why != "" {
		t.Skip(why)
	}
	c := newChild(t)
	x, err := p.acquire(c.instance())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.release(x, c.instance().Ref) }()
	data, err := p.claimCalls(x)
	if err != nil {
		t.Fatal(err)
	}
	c.do("calls 5000")
	stop, err := p.set.CountCalls()
	if err != nil {
		t.Fatal(err)
	}
	c.do("calls 10000")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.do("calls 5000")
	if got := copyCalls(data)[unix.SYS_GETPPID]; got != 10000 {
		t.Errorf("%d calls of getppid counted, 10000 were made meanwhile", got)
	}
}

func TestCallsNow(t *testing.T) {
	p := newProbes(t)
	if why := p.noCalls(); why != "" {
		t.Skip(why)
	}
	c := newChild(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := p.CallsNow(ctx, ft.Instance{}); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("of an instance without a process: %v", err)
	}
	c.say("calls 30000000")
	list, err := p.CallsNow(ctx, c.instance())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 || list[0].Name != "getppid" || list[0].Class != "process" || list[0].Number != unix.SYS_GETPPID || list[0].Rate < 1000 {
		t.Errorf("top calls: %+v", list)
	}
}

// On the whole nobody loses more than the budget, and there are pauses.
func TestBurstsKeepTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := time.Duration(rapid.Int64Range(int64(10*time.Millisecond), int64(10*time.Second)).Draw(t, "length"))
		loss := rapid.Float64Range(leastLoss, 0.99).Draw(t, "loss")
		budget := rapid.Float64Range(0.001, 0.5).Draw(t, "budget")
		period := apart(length, loss, budget)
		if lost := loss * length.Seconds() / period.Seconds(); lost > budget*1.001 {
			t.Fatalf("%g of the speed is lost, the budget is %g", lost, budget)
		}
		if period < 2*length {
			t.Fatalf("bursts of %s each %s", length, period)
		}
	})
}

// Who asks again and again cannot exceed the budget.
func TestAskingDoesNotBreakTheBudget(t *testing.T) {
	b := newBursts(&Probes{})
	now := time.Unix(1000, 0)
	b.asked, b.period, b.next = true, 4*time.Second, now.Add(4*time.Second) // one has just been
	if d := b.due(now); d > 0 {
		t.Errorf("the first that is asked for must wait %s", d)
	}
	b.next = b.next.Add(4 * time.Second) // the one that was asked for
	if d := b.due(now); d != 4*time.Second {
		t.Errorf("the second that is asked for must wait %s, want 4s", d)
	}
}

// The test runs itself as another user.
func TestUnprivileged(t *testing.T) {
	if os.Getenv("FETTLE_TELEMETRY_NOBODY") != "" {
		p, err := OpenProbes(slog.New(slog.DiscardHandler))
		if !errors.Is(err, ft.ErrUnavailable) {
			t.Fatalf("as nobody: %v", err)
		}
		in := ft.Instance{Ref: ft.Ref{ID: "web-1", Generation: 1}, Scope: ft.Scope{PID: os.Getpid()}}
		for _, p := range []*Probes{p, nil} {
			r, missing, err := p.Network(true).Attach(in)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("net_sent: %s", missing[ft.DimNetOut])
			if len(missing) != netColumns {
				t.Errorf("%d columns are missing: %v", len(missing), missing)
			}
			if err := errors.Join(r.Read(time.Now(), make([]float64, 2), nil), r.Close(), p.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := p.CallsNow(t.Context(), in); !errors.Is(err, ft.ErrUnavailable) {
				t.Errorf("calls: %v", err)
			}
			if d := p.Destinations(in.Ref); d != nil {
				t.Errorf("destinations: %v", d)
			}
			s := p.Syscalls(ft.Syscalls{Collect: ft.On, Budget: 0.03, Burst: ft.Duration(time.Second)})
			if _, missing, err := s.Attach(in); err != nil || missing[ft.SetSyscalls] == "" || len(s.Categories()) > 0 {
				t.Errorf("system calls: %v, %v", missing, err)
			}
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	exe := t.TempDir() + "/telemetry.test"
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := exe; strings.Count(dir, "/") > 1; { // t.TempDir is for its user only
		dir = dir[:strings.LastIndex(dir, "/")]
		_ = os.Chmod(dir, 0o755|os.ModeSticky)
	}
	cmd := exec.Command(exe, "-test.run", "^TestUnprivileged$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "FETTLE_TELEMETRY_NOBODY=1", "HOME=/", "GOCOVERDIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "needs CAP_BPF and CAP_PERFMON, or root") {
		t.Errorf("no plain reason in:\n%s", out)
	}
}

func TestFallbackMeasuresItsOwnNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	c := newChild(t)
	own := c.instance()
	s := NetworkFallback(false, "no eBPF")
	_, missing, err := s.Attach(own)
	if err != nil || missing[ft.DimNetIn] != "no eBPF; it has no network namespace of its own" || missing[ft.DimCalls] != "no eBPF" {
		t.Errorf("in the daemon's namespace: %v, %v", missing, err)
	}
	cmd := self()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no network namespaces here: ", err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	r, missing, err := s.Attach(ft.Instance{Ref: own.Ref, Scope: ft.Scope{PID: cmd.Process.Pid}})
	if err != nil || missing[ft.DimNetIn] != "" || missing[ft.DimMsgsIn] != "no eBPF" {
		t.Fatalf("in its own namespace: %v, %v", missing, err)
	}
	defer r.Close()
	row := make([]float64, len(s.Dimensions()))
	if err := r.Read(time.Now(), row, nil); err != nil || row[colNetIn] != 0 {
		t.Errorf("%v, %v", row, err)
	}

	// Another instance in the same namespace, as in a pod: the counters are of both together.
	outer := &child{t: t, cmd: cmd, in: in.(*os.File), out: bufio.NewReader(out)}
	outer.do("kid 0")
	outer.do("burnt")
	second := kidOf(t, outer)
	r2, _, err := s.Attach(second)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []ft.Reader{r, r2} {
		if err := r.Read(time.Now(), row, nil); err != nil || !math.IsNaN(row[colNetIn]) || !math.IsNaN(row[colNetOut]) {
			t.Errorf("shared: %v, %v", row, err)
		}
		u := r.(Reporter).Missing()
		if want := "no eBPF; 2 instances share its network namespace"; !strings.Contains(u[ft.DimNetIn], want) || u[ft.DimNetOut] != u[ft.DimNetIn] {
			t.Errorf("%v, want %s", u, want)
		}
	}
	_ = r2.Close()
	if err := r.Read(time.Now(), row, nil); err != nil || row[colNetIn] != 0 || len(r.(Reporter).Missing()) > 0 {
		t.Errorf("alone again: %v, %v, %v", row, err, r.(Reporter).Missing())
	}
	outer.do("reap")
}

func TestParseNetDev(t *testing.T) {
	const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000       10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
  eth0:12345678901 55    0    0    0     0          0         0     300       4    0    0    0     0       0          0
  eth1: 1          1     0    0    0     0          0         0     2         1    0    0    0     0       0          0
`
	if in, out, ok := parseNetDev([]byte(text)); !ok || in != 12345678902 || out != 302 {
		t.Errorf("received %d, sent %d, %v", in, out, ok)
	}
	if _, _, ok := parseNetDev([]byte(text[:len(text)-20])); ok {
		t.Error("a file that was cut off is taken for whole")
	}
}

func FuzzParseNetDev(f *testing.F) {
	f.Add([]byte("  eth0:1 2 3 4 5 6 7 8 9\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseNetDev(b) })
}
