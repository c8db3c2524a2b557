package telemetry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// TestClockStepsAndSuspension: the wall clock is set back and forth, or has gone on while the machine slept. What was
// done in one second of the machine's own time is a rate of one second, and what is to be tried again in 5 s is.
func TestClockStepsAndSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{dims: []ft.Dimension{counter("c")}, row: []float64{0}}
		broken := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}, attach: errors.New("too many open files")}
		b := newBench(t, 1, src, broken)
		steps := []time.Duration{0, 0, 24 * time.Hour, 24*time.Hour + 1, -365 * 24 * time.Hour, 0, 8 * time.Hour, 8 * time.Hour}
		for i, off := range steps {
			time.Sleep(time.Second)
			src.set(float64(2 * i))
			b.f.Rows = make([]ft.Row, 1)
			b.f.Reset(1)
			now := time.Now().UTC().Round(0).Add(off) // no monotonic part, as the engine gives it
			if err := b.s.Sample(t.Context(), now, b.in, b.f); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				broken.attach = nil
				continue
			}
			if got := b.f.Value(0, 0); got != 2 {
				t.Errorf("step %d to %s: rate %g, want 2", i, off, got)
			}
			if b.f.Span[0] != 1 {
				t.Errorf("step %d to %s: a row of %g s", i, off, b.f.Span[0])
			}
		}
		b.want(0, "c=2 g=1")
	})
}

// TestStretchedReadingsAreHeld: a reader may say that its slow dimensions come more seldom than their least interval.
func TestStretchedReadingsAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := gauge("slow")
		slow.Every = 3 * time.Second
		src := &paced{fake: &fake{dims: []ft.Dimension{slow}}}
		b := newBench(t, 1, src)
		shownFor := func(pace time.Duration) int {
			src.pace.Store(int64(pace))
			src.set(4)
			b.step(time.Second)
			src.set(math.NaN())
			for i := 0; ; i++ {
				if b.step(time.Second); math.IsNaN(b.f.Value(0, 0)) {
					return i
				}
			}
		}
		for pace, want := range map[time.Duration]int{0: 6, time.Second: 6, 12 * time.Second: 24} {
			if got := shownFor(pace); got != want {
				t.Errorf("readings every %s are shown for %d s, want %d", pace, got, want)
			}
		}
	})
}

// paced is a fake with a pace of its own.
type paced struct {
	*fake
	pace atomic.Int64
}

type pacedReader struct {
	ft.Reader
	p *paced
}

func (p *paced) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	r, u, err := p.fake.Attach(in)
	return &pacedReader{r, p}, u, err
}

func (r *pacedReader) Pace() time.Duration { return time.Duration(r.p.pace.Load()) }

// TestReusedNumberIsNotRead: another process gets the number of one that is measured, as soon as it is gone.
func TestReusedNumberIsNotRead(t *testing.T) {
	const next = "/proc/sys/kernel/ns_last_pid"
	c := newChild(t)
	pid := c.cmd.Process.Pid
	if err := os.WriteFile(next, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		t.Skipf("numbers cannot be chosen here (CAP_CHECKPOINT_RESTORE): %v", err)
	}
	r := attachTo(t, c.instance())
	was := r.(*tree).members[0].now.stat
	sets := subjectOf(t, quick(), c.instance())
	readRow(t, r)
	c.end()
	var other *child
	for try := 0; other == nil; try++ {
		if try == 200 {
			t.Skip("the number was not given again in 200 tries: others start processes all the time")
		}
		if err := os.WriteFile(next, []byte(strconv.Itoa(pid-1)), 0o644); err != nil {
			t.Fatal(err)
		}
		got := exec.Command("/bin/sleep", "60")
		if err := got.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = got.Process.Kill()
			_ = got.Wait()
		})
		if got.Process.Pid == pid {
			other = &child{t: t, cmd: got}
		}
	}
	for range 3 {
		for col, v := range readRow(t, r) {
			if !math.IsNaN(v) {
				t.Errorf("column %d is %g, of another process", col, v)
			}
		}
	}
	if row := sets.round(t, func() {}, func() {}); !math.IsNaN(row[colSet]) {
		t.Errorf("working set %g, of another process", row[colSet])
	}
	in := other.instance()
	in.Scope.StartTime = was.start
	if _, _, err := ProcFS().Attach(in); err == nil {
		t.Error("attached to another process with the number")
	}
	if _, _, err := WorkingSet(quick()).Attach(in); err == nil {
		t.Error("attached the working set to another process with the number")
	}
}

// TestNumbersOfAListAreChecked: between reading cgroup.procs and looking at the process, the number became another's.
func TestNumbersOfAListAreChecked(t *testing.T) {
	listed := bootTicks()
	x := &claim{lead: lead{1, 0}, users: 1}
	k := &claims{all: map[lead]*claim{x.lead: x}, owners: map[int]owned{}, grouped: map[int]grouped{7: {x, listed}}}
	for _, c := range []struct {
		start uint64
		want  *claim
	}{{listed - 1, x}, {listed + 1, nil}} {
		b := birth{pid: 7, parent: 2, start: c.start}
		if k.tell(&b, 1); b.of != c.want {
			t.Errorf("listed at %d, began at %d: told %v", listed, c.start, b.of)
		}
		clear(k.owners)
	}
}

// TestThreadStorm: threads come and go, hundreds between two reads. No sum falls, none leaps, and all CPU time is there.
func TestThreadStorm(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance())
	before, was := readRow(t, r), c.usage()
	done := make(chan struct{})
	var reads atomic.Int64
	c.say("storm 200")
	go func() {
		defer close(done)
		if got := c.hear(); got != "done" {
			t.Error(got)
		}
	}()
	watch(t, r, done, &reads)
	is, after := c.usage(), readRow(t, r)
	near(t, "cpu", after[colCPU]-before[colCPU], is.user+is.system-was.user-was.system, 0.05)
	if got := after[colTopThread]; !(math.IsNaN(got) || got >= 0 && got <= 1) {
		t.Errorf("one thread used %g cores", got)
	}
}

// TestLeaderWhoseMainThreadEnded: CPU and threads go on being measured; memory, which the kernel does not show any more,
// is absent, with the reason.
func TestLeaderWhoseMainThreadEnded(t *testing.T) {
	c := newChildAs(t, selfAs("headless"))
	s, err := New(slog.New(slog.DiscardHandler), ProcFS())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, f := []ft.Instance{c.instance()}, &ft.Frame{Schema: s.Schema()}
	value := func(name string) float64 { return f.Value(0, f.Schema.Index(name)) }
	for deadline := time.Now().Add(30 * time.Second); ; {
		c.do("burn 50")
		f.Reset(1)
		if err := s.Sample(t.Context(), time.Now(), in, f); err != nil {
			t.Fatal(err)
		}
		if value(ft.DimCPU) > 0 && math.IsNaN(value(ft.DimRSS)) { // the main thread ended after the child said that it is there
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("CPU %g, resident %g", value(ft.DimCPU), value(ft.DimRSS))
		}
	}
	if got := value(ft.DimThreads); !(got > 1) {
		t.Errorf("%g threads", got)
	}
	why := s.Unavailable(in[0].Ref)
	for _, name := range []string{ft.DimRSS, ft.DimAnon} {
		if got := value(name); !math.IsNaN(got) || !strings.Contains(why[name], "main thread") {
			t.Errorf("%s is %g, reason %q", name, got, why[name])
		}
	}
	if why[ft.DimCPU] != "" {
		t.Errorf("CPU: %q", why[ft.DimCPU])
	}
	sets := subjectOf(t, quick(), c.instance())
	if row := sets.round(t, func() {}, func() {}); !math.IsNaN(row[colSet]) || !strings.Contains(sets.why, "main thread") {
		t.Errorf("working set %g, reason %q", row[colSet], sets.why)
	}
}

// TestMoreProcessesThanAreRead: a sum over some of them is no sum.
func TestMoreProcessesThanAreRead(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance()).(*tree)
	for i := range mostMembers - 1 {
		r.members = append(r.members, &process{pid: 1 << 30, now: reading{gone: i >= 0}, stat: closed, statm: closed, io: closed, fds: closed, tasks: closed})
	}
	r.add(birth{pid: os.Getpid()}, true)
	for col, v := range readRow(t, r) {
		if !math.IsNaN(v) {
			t.Errorf("column %d is %g", col, v)
		}
	}
	if why := r.Missing()[ft.DimCPU]; why != tooMany {
		t.Errorf("reason %q", why)
	}
	r.fullAt = time.Now().Add(-listEvery - groupsEvery)
	if row := readRow(t, r); math.IsNaN(row[colCPU]) || len(r.Missing()) != 0 {
		t.Errorf("with fewer again: %v, %v", row, r.Missing())
	}
}

// TestCgroupThatIsGone reads as nothing, with the reason.
func TestCgroupThatIsGone(t *testing.T) {
	dir, scope := anyGroup(t)
	in := ft.Instance{}
	scope(&in.Scope)
	r, _, err := Cgroup().Attach(in)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if row := readGroup(t, r); math.IsNaN(row[colGroupAnon]) || len(r.(Reporter).Missing()) != 0 {
		t.Errorf("it reads %v", row)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	wantRow(t, readGroup(t, r), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN())
	if why := r.(Reporter).Missing()[ft.DimRefaults]; why != "its control group is gone" {
		t.Errorf("reason %q", why)
	}
}

// look is what another user sees of a process, one dimension a line: its value or why it has none.
func look() {
	if os.Getenv("HIDEPID") != "" {
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, "hidepid="+os.Getenv("HIDEPID"))); err != nil {
			fmt.Println("cannot:", err)
			return
		}
	}
	// All threads of the program, for the sampler reads on one of its own.
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
		fmt.Println("cannot:", err)
		return
	}
	pid, _ := strconv.Atoi(os.Getenv("LOOK_AT"))
	s, err := New(slog.New(slog.DiscardHandler), ProcFS(), WorkingSet(quick()))
	if err != nil {
		fmt.Println("cannot:", err)
		return
	}
	in := []ft.Instance{{Ref: ft.Ref{ID: "web-1", Generation: 1}, Scope: ft.Scope{PID: pid}}}
	f := &ft.Frame{Schema: s.Schema()}
	for range 2 {
		f.Reset(1)
		if err := s.Sample(context.Background(), time.Now(), in, f); err != nil {
			fmt.Println("cannot:", err)
		}
	}
	for i := range s.Schema().Len() {
		fmt.Printf("value %s %g\n", s.Schema().At(i).Name, f.Value(0, i))
	}
	why := s.Unavailable(in[0].Ref)
	for _, name := range slices.Sorted(maps.Keys(why)) {
		fmt.Printf("why %s %s\n", name, why[name])
	}
}

// TestAnotherUsersProcess: what its own user may see and others not is absent with the reason; the rest is measured.
func TestAnotherUsersProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	c := newChild(t)
	for _, test := range []struct {
		hidepid string
		reads   []string
		lacks   map[string]string
	}{
		{"", []string{ft.DimRSS, ft.DimThreads}, map[string]string{ft.DimRead: "no permission", ft.DimWSS: "no permission"}},
		{"1", nil, map[string]string{ft.DimRSS: "no permission", ft.DimCPU: "no permission", ft.DimWSS: "no permission"}},
		{"2", nil, map[string]string{ft.DimRSS: "hidepid", ft.DimCPU: "hidepid", ft.DimWSS: "hidepid"}},
	} {
		t.Run("hidepid "+test.hidepid, func(t *testing.T) {
			looker := selfAs("looker")
			looker.Env = append(looker.Env, "LOOK_AT="+strconv.Itoa(c.cmd.Process.Pid), "HIDEPID="+test.hidepid)
			looker.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // its own /proc
			out, err := looker.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if why, is := strings.CutPrefix(string(out), "cannot: "); is {
				t.Skipf("this machine does not allow the test: %s", why)
			}
			values, whys := map[string]string{}, map[string]string{}
			for in := bufio.NewScanner(strings.NewReader(string(out))); in.Scan(); {
				kind, rest, _ := strings.Cut(in.Text(), " ")
				name, text, _ := strings.Cut(rest, " ")
				map[string]map[string]string{"value": values, "why": whys}[kind][name] = text
			}
			for _, name := range test.reads {
				if v, err := strconv.ParseFloat(values[name], 64); err != nil || !(v > 0) || whys[name] != "" {
					t.Errorf("%s is %s, reason %q", name, values[name], whys[name])
				}
			}
			for name, word := range test.lacks {
				if values[name] != "NaN" || !strings.Contains(whys[name], word) {
					t.Errorf("%s is %s, reason %q, want one with %q", name, values[name], whys[name], word)
				}
			}
		})
	}
}
