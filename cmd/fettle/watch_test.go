package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// watching is a `fettle watch` that runs, on a state directory of its own.
type watching struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	out  *heard
	done chan error
	over bool
}

// heard is output that can be read while it is written.
type heard struct {
	mu sync.Mutex
	b  strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

// startWatch starts fettle watch with these arguments; it is ended with the test.
func startWatch(t *testing.T, change func(*exec.Cmd), args ...string) *watching {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fettle-watch-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	w := &watching{t: t, dir: filepath.Join(dir, "s"), out: &heard{}, done: make(chan error, 1)}
	exe, err := exec.LookPath("fettle")
	if err != nil {
		t.Fatal(err)
	}
	w.cmd = exec.Command(exe, append([]string{"watch", "--state", w.dir}, args...)...)
	w.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
	w.cmd.Stdout, w.cmd.Stderr = w.out, w.out
	if change != nil {
		change(w.cmd)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.done <- w.cmd.Wait() }()
	t.Cleanup(w.end)
	return w
}

// end ends the watch as Ctrl-C does.
func (w *watching) end() {
	if w.over {
		return
	}
	_ = w.cmd.Process.Signal(syscall.SIGINT)
	if err := w.wait(); err != nil {
		w.t.Errorf("watch: %v\n%s", err, w.out)
	}
}

// wait waits until it has ended; what it said can be read then.
func (w *watching) wait() error {
	w.over = true
	return <-w.done
}

func (w *watching) fettle(args ...string) (string, error) {
	out, err := exec.Command("fettle", append(args, "--state", w.dir)...).CombinedOutput()
	return string(out), err
}

// until polls ps for a pool that is as it should be.
func (w *watching) until(what string, is func(p *api.PoolStatus) bool) api.PoolStatus {
	w.t.Helper()
	last := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := w.fettle("ps", "-o", "json")
		last = out
		var ps []api.PoolStatus
		if err == nil && json.Unmarshal([]byte(out), &ps) == nil && len(ps) == 1 && is(&ps[0]) {
			return ps[0]
		}
	}
	w.t.Fatalf("%s: not in time; story:\n%s\nlast:\n%s", what, w.out, last)
	return api.PoolStatus{}
}

func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed here", program)
	}
}

// program starts a server that Fettle does not run.
func program(t *testing.T, change func(*exec.Cmd), args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if change != nil {
		change(c)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	return c
}

// referenced is how much of a process's memory the kernel says was referenced: next to nothing right after somebody
// cleared that.
func referenced(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^Referenced:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Skip("this kernel tells nothing of references")
	}
	fmt.Sscan(string(m[1]), &kib)
	return kib
}

// imprint is what could be changed of a process from outside.
func imprint(t *testing.T, pid int) string {
	t.Helper()
	var b strings.Builder
	for _, f := range []string{"cgroup", "limits", "oom_score_adj", "autogroup", "coredump_filter", "cmdline"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", f, text)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if slices.ContainsFunc([]string{"PPid:", "TracerPid:", "SigPnd:", "ShdPnd:", "SigBlk:", "Cpus_allowed:"}, func(k string) bool { return strings.HasPrefix(line, k) }) {
			b.WriteString(line)
		}
	}
	prio, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid)
	fmt.Fprintf(&b, "priority %d %v\n", prio, err)
	return b.String()
}

// groups are the control groups that somebody made for Fettle's instances.
func groups() []string {
	var dirs []string
	for _, pattern := range []string{"/sys/fs/cgroup/fettle/*", "/sys/fs/cgroup/*/fettle/*", "/sys/fs/cgroup/*/*/fettle/*", "/sys/fs/cgroup/*/*/*/fettle/*"} {
		more, _ := filepath.Glob(pattern)
		dirs = append(dirs, more...)
	}
	return dirs
}

// Redis servers are watched, measured and explained; the watch is killed; nothing of them changed at any time, and
// nothing is left of it but its state directory.
func TestNothingIsChangedAlsoByAWatchThatIsKilled(t *testing.T) {
	needs(t, "redis-server")
	var servers []*exec.Cmd
	var before []string
	for i := range 2 {
		dir := t.TempDir()
		c := program(t, func(c *exec.Cmd) { c.Dir = dir }, "redis-server", "--port", "0", "--unixsocket", filepath.Join(dir, "redis.sock"), "--save", "", "--appendonly", "no", "--dir", dir)
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(dir, "redis.sock")); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("redis-server %d does not come up", i)
			}
		}
		servers = append(servers, c)
	}
	time.Sleep(500 * time.Millisecond) // its threads are there then
	made := groups()
	for _, c := range servers {
		before = append(before, imprint(t, c.Process.Pid))
	}
	references := referenced(t, servers[0].Process.Pid)
	unchanged := func(when string) {
		t.Helper()
		for i, c := range servers {
			if is := imprint(t, c.Process.Pid); is != before[i] {
				t.Errorf("%s: server %d is\n%s\nwas\n%s", when, i, is, before[i])
			}
		}
		if is := referenced(t, servers[0].Process.Pid); is < references/2 {
			t.Errorf("%s: %d KiB are said to be referenced, were %d", when, is, references)
		}
		for _, g := range groups() {
			if !slices.Contains(made, g) && len(processesIn(g)) > 0 && slices.Contains(processesIn(g), fmt.Sprint(servers[0].Process.Pid)) {
				t.Errorf("%s: there is a control group %s", when, g)
			}
		}
	}
	w := startWatch(t, nil, "--match", "^[^ ]*redis-server unixsocket:.*/TestNothingIsChanged.*redis.sock", "--name", "redis", "--interval", "100ms", "--learn", "3s")
	p := w.until("a verdict of both", func(p *api.PoolStatus) bool {
		return len(p.Instances) == 2 && !slices.ContainsFunc(p.Instances, func(in api.InstanceStatus) bool { return in.Level == fettle.Learning })
	})
	if p.Instances[0].Label != "redis-server" || p.Instances[0].Figures.Memory < 1<<20 {
		t.Errorf("it is seen as %+v", p.Instances[0])
	}
	unchanged("while it is watched")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", w.cmd.Process.Pid, w.cmd.Process.Pid))
	if err == nil && len(strings.TrimSpace(string(children))) > 0 {
		t.Errorf("the watch has started processes: %s", children)
	}
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.wait()
	unchanged("after the watch was killed")

	// There is nothing to bring down, and what was learnt is there for the next watch.
	if out, err := w.fettle("down"); err == nil || !strings.Contains(out, api.ErrNoDaemon.Error()) {
		t.Errorf("down: %v, %s", err, out)
	}
	unchanged("after fettle down")
}

func processesIn(group string) []string {
	b, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	return strings.Fields(string(b))
}

// A server is restarted by whoever runs it: the watch tells its end and goes on with the next one under the same name.
func TestAServerThatRestartsUnderTheWatch(t *testing.T) {
	needs(t, "python3")
	dir := t.TempDir()
	// A supervisor that starts the server anew when it ends.
	program(t, func(c *exec.Cmd) { c.Dir = dir }, "sh", "-c", `while :; do python3 -m http.server --bind 127.0.0.1 --directory `+dir+` 0 >/dev/null 2>&1; sleep 0.2; done`)
	w := startWatch(t, nil, "--match", "^[^ ]*python3 -m http.server --bind 127.0.0.1 --directory "+dir, "--name", "files", "--interval", "100ms", "--learn", "3s")
	p := w.until("it is found, with its address", func(p *api.PoolStatus) bool {
		return len(p.Instances) == 1 && p.Instances[0].Endpoint != ""
	})
	first := p.Instances[0]
	if first.Label != "python3 -m http.server" {
		t.Errorf("it is called %q", first.Label)
	}
	if err := syscall.Kill(first.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p = w.until("the next generation", func(p *api.PoolStatus) bool {
		return len(p.Instances) == 1 && p.Instances[0].Generation == 2
	})
	if in := p.Instances[0]; in.ID != first.ID || in.PID == first.PID || in.Restarts != 0 || in.Age >= first.Age+fettle.Duration(time.Minute) {
		t.Errorf("the next one is %+v", in)
	}
	out, err := w.fettle("log", "-o", "json", "--kind", "exited,opened,intended,braked")
	if err != nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, "files-1 killed by signal 15") {
		t.Errorf("log: %v:\n%s", err, out)
	}
}

// A user without rights watches a process of its own, and is told what it cannot read of another's.
func TestAUserWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	nobody := func(c *exec.Cmd) {
		if c.SysProcAttr == nil {
			c.SysProcAttr = &syscall.SysProcAttr{}
		}
		c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		c.Env = append(os.Environ(), "HOME=/nonexistent", "XDG_STATE_HOME=/nonexistent")
		c.Dir = "/"
	}
	exe, err := exec.LookPath("fettle")
	if err != nil {
		t.Fatal(err)
	}
	copied := copyOf(t, exe)
	as := func(c *exec.Cmd) {
		nobody(c)
		c.Path = copied
		dir := filepath.Dir(c.Args[3]) // of --state
		c.Env = append(c.Env, "XDG_STATE_HOME="+dir)
	}
	own := program(t, nobody, "sleep", "1000")
	root := program(t, nil, "sleep", "1000")
	for _, x := range []struct {
		name  string
		pid   int
		lacks bool
	}{{"its own", own.Process.Pid, false}, {"root's", root.Process.Pid, true}} {
		w := startWatch(t, as, fmt.Sprint(x.pid), "--interval", "100ms", "--learn", "3s")
		p := w.until(x.name+" is measured", func(p *api.PoolStatus) bool {
			return len(p.Instances) == 1 && p.Instances[0].Level > fettle.Learning && p.Instances[0].Unavailable != nil
		})
		in := p.Instances[0]
		_, lacks := in.Unavailable[fettle.DimRead]
		if lacks != x.lacks {
			t.Errorf("%s: %q", x.name, in.Unavailable)
		}
		text, err := w.fettle("explain", string(in.ID))
		if err != nil || !strings.Contains(text, "not measured") {
			t.Errorf("%s: %v: %s", x.name, err, text)
		}
		if x.lacks && !strings.Contains(strings.Join(strings.Fields(text), " "), "no permission") {
			t.Errorf("explain does not say why:\n%s", text)
		}
		w.until("it is said whether anything tells the work", func(p *api.PoolStatus) bool {
			return len(p.Work) > 0 || strings.Contains(w.out.String(), "cannot be told apart")
		})
		if _, err := w.fettle("down"); err != nil {
			t.Error(err)
		}
		if err := w.wait(); err != nil {
			t.Error(err)
		}
	}
}

// copyOf is a copy of the program that any user may run.
func copyOf(t *testing.T, exe string) string {
	t.Helper()
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "fettle-bin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	to := filepath.Join(dir, "fettle")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(to, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	return to
}

// What is watched is recorded, and the recording replays.
func TestAWatchThatRecords(t *testing.T) {
	c := program(t, nil, "sleep", "1000")
	file := filepath.Join(t.TempDir(), "sleep.rec")
	w := startWatch(t, nil, fmt.Sprint(c.Process.Pid), "--name", "sleeper", "--interval", "100ms", "--learn", "3s", "--record", file)
	w.until("a verdict", func(p *api.PoolStatus) bool { return len(p.Instances) == 1 && p.Instances[0].Level == fettle.Steady })
	w.end()
	if !strings.Contains(w.out.String(), "recorded ") || !strings.Contains(w.out.String(), "fettle replay "+file) {
		t.Errorf("it is not said:\n%s", w.out)
	}
	out, err := exec.Command("fettle", "replay", file).CombinedOutput()
	if err != nil {
		t.Errorf("replay: %v: %s", err, out)
	}
	t.Logf("%s", out)
}

// What the servers count themselves tells the work, at the port that they are found to listen on.
func TestCountersOfTheirOwnTellTheWork(t *testing.T) {
	needs(t, "python3")
	script := filepath.Join(t.TempDir(), "counts.py")
	err := os.WriteFile(script, []byte(`
import http.server
n = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global n
        n += 10
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"# TYPE jobs_total counter\njobs_total %d\n" % n)
    def log_message(self, *a):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler).serve_forever()
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	program(t, nil, "python3", script)
	w := startWatch(t, nil, "--match", script, "--interval", "200ms", "--learn", "6s", "--scrape", "/", "--series", "jobs_total=load")
	w.until("the counter tells the work", func(p *api.PoolStatus) bool {
		return len(p.Instances) == 1 && slices.Equal(p.Work, []string{"jobs_total"}) && p.Instances[0].Label == "python3 counts.py"
	})
	w.until("the story says so", func(*api.PoolStatus) bool {
		return strings.Contains(w.out.String(), "what they are asked to do is told by jobs_total")
	})
}
