package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server starts a program that does nothing for long, and has the mark in its command line. It is ended with the test.
func server(t *testing.T, mark string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("perl is not installed here")
	}
	c := exec.Command("perl", "-e", "system 'sleep', '1000' # "+mark)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	return c
}

func poolOf(w ft.Watch) *ft.Pool {
	p := &ft.Pool{Name: "web", Watch: &w}
	p.Defaults()
	return p
}

// onlooker is a driver whose findings are written down.
type onlooker struct {
	*Driver
	t      *testing.T
	stop   func()
	mu     sync.Mutex
	events []string
}

func opened(t *testing.T, w ft.Watch, state string) *onlooker {
	t.Helper()
	d, err := Open(poolOf(w), Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	o := &onlooker{Driver: d, t: t}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	say := func(format string, a ...any) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events = append(o.events, fmt.Sprintf(format, a...))
	}
	wg.Go(func() { _ = d.Find(ctx, func(in ft.Instance) { say("found %s pid %d", in.Ref, in.Scope.PID) }) })
	wg.Go(func() { _ = d.Watch(ctx, func(r ft.Ref, x ft.Exit) { say("%s %s", r, x) }) })
	o.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(o.stop)
	return o
}

func (o *onlooker) heard() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

// until polls a condition.
func (o *onlooker) until(what string, is func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	o.t.Fatalf("%s: not in time; heard %q, listed %v", what, o.heard(), o.refs())
}

func (o *onlooker) hears(what string) {
	o.t.Helper()
	o.until("hearing "+what, func() bool { return slices.Contains(o.heard(), what) })
}

func (o *onlooker) list() []ft.Instance {
	o.t.Helper()
	ins, err := o.List(o.t.Context(), "web")
	if err != nil {
		o.t.Fatal(err)
	}
	return ins
}

func (o *onlooker) refs() (refs []string) {
	for _, in := range o.list() {
		refs = append(refs, fmt.Sprintf("%s=%d", in.Ref, in.Scope.PID))
	}
	return refs
}

// mark is a text that no other command line has.
func mark(t *testing.T) string { return fmt.Sprintf("mark-%d-%s", os.Getpid(), t.Name()) }

func TestNumberedProcessesAreInstances(t *testing.T) {
	a, b := server(t, mark(t)), server(t, mark(t))
	o := opened(t, ft.Watch{PIDs: []int{a.Process.Pid, b.Process.Pid}}, t.TempDir())
	ins := o.list()
	if len(ins) != 2 || ins[0].ID != "web-1" || ins[0].Scope.PID != a.Process.Pid || ins[1].Scope.PID != b.Process.Pid {
		t.Fatalf("listed: %+v", ins)
	}
	s, err := procfs.ReadStat(a.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := procfs.BootID()
	if err != nil {
		t.Fatal(err)
	}
	in := ins[0]
	if in.Scope.StartTime != s.Start || in.Scope.BootID != boot || in.Label != "perl" || in.Digest != ins[1].Digest {
		t.Errorf("instance %+v", in)
	}
	if age := time.Since(in.Born); age < -time.Second || age > time.Minute {
		t.Errorf("its age is %s", age)
	}
	_ = a.Process.Kill()
	o.hears("web-1 killed by signal 9")
	o.until("the end of the first", func() bool { return slices.Equal(o.refs(), []string{fmt.Sprintf("web-2=%d", b.Process.Pid)}) })
	_ = syscall.Kill(b.Process.Pid, syscall.SIGTERM)
	o.hears("web-2 killed by signal 15")
	o.until("a note that all have ended", func() bool { return strings.Contains(o.Note(), "all of the named processes have ended") })
}

func TestWhatCannotBeWatchedIsRefused(t *testing.T) {
	c := server(t, mark(t))
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	child := 0
	for child == 0 {
		b, _ := os.ReadFile(procfs.Path(c.Process.Pid, "task/"+strconv.Itoa(c.Process.Pid)+"/children"))
		child, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	thread := 0
	es, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if tid, _ := strconv.Atoi(e.Name()); tid != os.Getpid() {
			thread = tid
		}
	}
	for _, x := range []struct {
		w    ft.Watch
		want string
		kind error
	}{
		{ft.Watch{PIDs: []int{gone.Process.Pid}}, fmt.Sprintf("there is no process %d", gone.Process.Pid), ft.ErrNotFound},
		{ft.Watch{PIDs: []int{os.Getpid()}}, "is Fettle itself, or started it", ft.ErrInvalid},
		{ft.Watch{PIDs: []int{os.Getppid()}}, "is Fettle itself, or started it", ft.ErrInvalid},
		{ft.Watch{PIDs: []int{thread}}, "is a thread of process " + strconv.Itoa(os.Getpid()), ft.ErrInvalid},
		{ft.Watch{PIDs: []int{child, c.Process.Pid}}, fmt.Sprintf("process %d descends from process %d", child, c.Process.Pid), ft.ErrInvalid},
		{ft.Watch{PIDs: []int{kernelThreadOf(t)}}, "is a thread of the kernel", ft.ErrInvalid},
	} {
		if len(x.w.PIDs) > 0 && x.w.PIDs[0] == 0 {
			continue
		}
		d, err := Open(poolOf(x.w), Options{StateDir: t.TempDir()})
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), x.want) || !errors.Is(err, x.kind) {
			t.Errorf("%s: %v, want %q", &x.w, err, x.want)
		}
	}
}

// kernelThreadOf is a thread of the kernel, 0 where none can be seen from here.
func kernelThreadOf(t *testing.T) int {
	for _, pid := range procfs.List(nil) {
		if s, err := procfs.ReadStat(pid); err == nil && s.Kernel {
			return pid
		}
	}
	t.Log("no thread of the kernel can be seen from here")
	return 0
}

func TestVerbsThatActAreRefused(t *testing.T) {
	c := server(t, mark(t))
	o := opened(t, ft.Watch{PIDs: []int{c.Process.Pid}}, t.TempDir())
	in := o.list()[0]
	_, err := o.Start(t.Context(), poolOf(ft.Watch{}), ft.Ref{ID: "web-9", Generation: 1}, ft.Work{})
	for what, err := range map[string]error{"start": err, "stop": o.Stop(t.Context(), in.Ref, 0)} {
		if !errors.Is(err, ft.ErrUnavailable) || !strings.HasPrefix(err.Error(), "web is only watched: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	caps := ft.Resolve(o.Driver)
	if caps.Tuner != nil || caps.SoftResetter != nil || caps.FullResetter != nil || caps.Specializer != nil {
		t.Error("it offers to change something")
	}
	if err := syscall.Kill(c.Process.Pid, 0); err != nil {
		t.Errorf("the server: %v", err)
	}
}

func TestTopmostMatchesAreFoundAsTheyCome(t *testing.T) {
	m := mark(t)
	o := opened(t, ft.Watch{Match: m}, t.TempDir())
	if ins := o.list(); len(ins) != 0 {
		t.Fatalf("before anything runs: %v", ins)
	}
	a := server(t, m)
	o.hears(fmt.Sprintf("found web-1 pid %d", a.Process.Pid))
	// One whose child matches too: the child belongs to it.
	c := exec.Command("perl", "-e", fmt.Sprintf("system 'perl', '-e', 'sleep 1000 # %s'; # %s", m, m))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL); _ = c.Wait() })
	o.hears(fmt.Sprintf("found web-2 pid %d", c.Process.Pid))
	if ins := o.list(); len(ins) != 2 {
		t.Errorf("listed: %v", o.refs())
	}
}

func TestAServerThatComesBackIsTheNextGeneration(t *testing.T) {
	m := mark(t)
	a, b := server(t, m), server(t, m)
	state := t.TempDir()
	o := opened(t, ft.Watch{Match: m}, state)
	o.until("both", func() bool { return len(o.list()) == 2 })
	first := o.list()[0]
	victim, other := a, b
	if first.Scope.PID != a.Process.Pid {
		victim, other = b, a
	}
	_ = victim.Process.Kill()
	o.hears(fmt.Sprintf("%s killed by signal 9", first.Ref))
	back := server(t, m)
	o.hears(fmt.Sprintf("found web-1/2 pid %d", back.Process.Pid))
	o.stop()

	// While nobody watches, that one comes back once more and another one comes: names are remembered.
	_ = back.Process.Kill()
	_ = back.Wait()
	again, more := server(t, m), server(t, m)
	o = opened(t, ft.Watch{Match: m}, state)
	o.until("three", func() bool { return len(o.list()) == 3 })
	byPID := map[int]string{}
	for _, in := range o.list() {
		byPID[in.Scope.PID] = in.Ref.String()
	}
	if byPID[other.Process.Pid] != "web-2" {
		t.Errorf("the one that ran all along is %q now", byPID[other.Process.Pid])
	}
	names := []string{byPID[again.Process.Pid], byPID[more.Process.Pid]}
	slices.Sort(names)
	if !slices.Equal(names, []string{"web-1/3", "web-3"}) {
		t.Errorf("the new ones are %v", names)
	}
}

func TestThisProgramAndItsParentsNeverMatch(t *testing.T) {
	self, err := selfAndParents()
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMatcher(".", self)
	if err != nil {
		t.Fatal(err)
	}
	seen, _, err := m.look(time.Now())
	if err != nil || len(seen) == 0 {
		t.Fatal(len(seen), err)
	}
	for _, s := range seen {
		if self[s.stat.PID] || s.stat.Kernel {
			t.Errorf("process %d matches", s.stat.PID)
		}
	}
}

func TestANumberThatPassedToAnotherProcess(t *testing.T) {
	c := server(t, mark(t))
	s, err := procfs.ReadStat(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	o := opened(t, ft.Watch{PIDs: []int{c.Process.Pid}}, t.TempDir())
	// As a look would see it that began before the number passed on.
	s.Start--
	fresh, err := o.take([]sighting{{stat: s}}, time.Now())
	if err != nil || len(fresh) != 0 {
		t.Errorf("took %v, %v", fresh, err)
	}
	// And as the memory has it: the same number, another start.
	m := memory{Serial: 1, Names: []named{{Ref: ft.Ref{ID: "web-1", Generation: 1}, Place: "x", PID: s.PID, Start: s.Start, Boot: o.boot}}}
	s.Start++
	ref, fresh2 := m.name("web", named{Place: "y", PID: s.PID, Start: s.Start, Boot: o.boot}, func(ft.InstanceID) bool { return false })
	if ref.ID != "web-2" || !fresh2 {
		t.Errorf("it was taken for %s", ref)
	}
}

func TestMoreThanCanBeWatched(t *testing.T) {
	if err := tooMany(ft.MostWatched); err != nil {
		t.Error(err)
	}
	err := tooMany(ft.MostWatched + 1)
	if err == nil || !errors.Is(err, ft.ErrInvalid) || !strings.Contains(err.Error(), "257 match, at most 256") {
		t.Error(err)
	}
}

func TestWhereAServerListensIsFound(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed here")
	}
	m := mark(t)
	o := opened(t, ft.Watch{Match: m}, t.TempDir())
	c := exec.Command("python3", "-c", "import socket, time\ntime.sleep(2)\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\ntime.sleep(1000) # "+m)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	var port int
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	o.until("its address", func() bool {
		ins := o.list()
		return len(ins) == 1 && ins[0].Endpoint.String() == fmt.Sprintf("tcp:127.0.0.1:%d", port)
	})
}

// Servers that never listen are asked where they do ever more seldom, and one that begins late is found within a minute.
func TestAServerThatDoesNotListen(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed here")
	}
	c := exec.Command("python3", "-c", "import socket, time\nprint('up', flush=True)\ninput()\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\ntime.sleep(1000)")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0") // so that somebody listens here
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	// Where python3 is a script that becomes Python, it is another program first, and a new one is looked at anew.
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		t.Fatal(err)
	}
	d, err := Open(poolOf(ft.Watch{PIDs: []int{c.Process.Pid}}), Options{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	asked := 0
	d.sockets = func(pid int) map[uint64]bool { asked++; return socketsOf(pid) }
	now := time.Now()
	look := func(to time.Time) (found string) {
		for ; now.Before(to); now = now.Add(lookEvery) {
			seen, _, err := d.find.look(now)
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := d.take(seen, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, in := range fresh {
				found = in.Endpoint.String()
			}
		}
		return found
	}
	look(now.Add(time.Hour))
	if asked < 60 || asked > 70 {
		t.Errorf("in an hour of %d looks it was asked %d times; want once a minute, and some more at first", time.Hour/lookEvery, asked)
	}
	var port int
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	if got, want := look(now.Add(time.Minute+lookEvery)), fmt.Sprintf("tcp:127.0.0.1:%d", port); got != want {
		t.Errorf("a minute after it began to listen at %s, it was found at %q", want, got)
	}
}

// Whoever asks what runs, or hears of an end, does not wait for what a look reads.
func TestASlowLookHoldsUpNobody(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0") // so that somebody listens here
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := server(t, mark(t))
	o := opened(t, ft.Watch{PIDs: []int{c.Process.Pid}}, t.TempDir())
	in, out := make(chan struct{}), make(chan struct{})
	o.looking.Lock()
	o.sockets = func(int) map[uint64]bool {
		select {
		case in <- struct{}{}:
		default:
		}
		<-out
		return nil
	}
	o.looking.Unlock()
	<-in
	_ = c.Process.Kill()
	o.hears("web-1 killed by signal 9")
	if got := o.list(); len(got) != 0 {
		t.Errorf("listed after the end: %v", got)
	}
	close(out)
}

// A script that becomes the server that it starts is found as what it became.
func TestAScriptThatBecomesAServer(t *testing.T) {
	c := exec.Command("sh", "-c", "read x; exec tail -f /dev/null")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	o := opened(t, ft.Watch{PIDs: []int{c.Process.Pid}}, t.TempDir())
	was := o.list()[0]
	if was.Label != "sh" {
		t.Fatalf("the script is called %q", was.Label)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	o.until("the server", func() bool { return o.list()[0].Label == "tail" })
	if is := o.list()[0]; is.Ref != was.Ref || is.Digest == was.Digest {
		t.Errorf("it was %+v, is %+v", was, is)
	}
}

// Nothing of a server changes while it is watched, nor when the watch ends.
func TestNothingOfTheServerChanges(t *testing.T) {
	c := server(t, mark(t))
	for s, err := procfs.ReadStat(c.Process.Pid); err != nil || s.State != 'S'; s, err = procfs.ReadStat(c.Process.Pid) {
		time.Sleep(10 * time.Millisecond) // it has come up when it sleeps
	}
	before := imprint(t, c.Process.Pid)
	o := opened(t, ft.Watch{PIDs: []int{c.Process.Pid}}, t.TempDir())
	time.Sleep(3 * lookEvery / 2)
	if is := imprint(t, c.Process.Pid); is != before {
		t.Errorf("while watched:\n%s\nwas:\n%s", is, before)
	}
	o.stop()
	if is := imprint(t, c.Process.Pid); is != before {
		t.Errorf("afterwards:\n%s\nwas:\n%s", is, before)
	}
}

// imprint is what could be changed of a process from outside: its groups, limits, priority, signals, parents, session.
func imprint(t *testing.T, pid int) string {
	t.Helper()
	var b strings.Builder
	for _, f := range []string{"cgroup", "limits", "oom_score_adj", "autogroup", "cmdline", "coredump_filter"} {
		text, err := os.ReadFile(procfs.Path(pid, f))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", f, text)
	}
	status, err := os.ReadFile(procfs.Path(pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		for _, k := range []string{"PPid", "TracerPid", "SigPnd", "ShdPnd", "SigBlk", "NSpid", "Cpus_allowed", "Mems_allowed"} {
			if strings.HasPrefix(line, k+":") {
				b.WriteString(line)
			}
		}
	}
	prio, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid)
	fmt.Fprintf(&b, "priority %d %v\n", prio, err)
	return b.String()
}

func TestMemoryThatIsDamagedIsLearntAnew(t *testing.T) {
	c, state := server(t, mark(t)), t.TempDir()
	if err := os.WriteFile(memoryPath(state, "web"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := opened(t, ft.Watch{PIDs: []int{c.Process.Pid}}, state)
	if len(o.list()) != 1 {
		t.Error("nothing is watched")
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*.tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestWhatFettleRunsIsNotWatched: a pattern that fits instances of another pool leaves them to who runs them, and says so.
func TestWhatFettleRunsIsNotWatched(t *testing.T) {
	mark := fmt.Sprintf("theirs-%d", os.Getpid())
	own := exec.Command("sleep", "1000", fmt.Sprintf("0.00000%d", os.Getpid()))
	own.Env = append(os.Environ(), "FETTLE_INSTANCE=shop-3")
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = own.Process.Kill()
		_ = own.Wait()
	})
	theirs := server(t, mark)
	o := opened(t, ft.Watch{Match: "0.00000" + fmt.Sprint(os.Getpid()) + "|" + mark}, t.TempDir())
	defer o.stop()
	o.until("the other one being found", func() bool {
		list, err := o.List(t.Context(), "")
		return err == nil && len(list) == 1 && list[0].Scope.PID == theirs.Process.Pid
	})
	o.until("it being said", func() bool { return o.Note() == "shop-3: Fettle runs that itself, and it is not watched" })
	if _, err := Open(poolOf(ft.Watch{PIDs: []int{own.Process.Pid}}), Options{StateDir: t.TempDir()}); !errors.Is(err, ft.ErrInvalid) || !strings.Contains(err.Error(), "shop-3: Fettle runs that itself") {
		t.Errorf("by its number: %v", err)
	}
}
