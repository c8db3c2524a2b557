package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/internal/daemon"
)

const poolFile = `
pools:
  - name: web
    mode: heal
    listen: 127.0.0.1:0
    size: {min: 3}
    image:
      command: [testserver]
    heal: {holdOff: 1s}
`

// rig is a state directory with a pool file, and whatever runs on it.
type rig struct {
	t    *testing.T
	dir  string
	file string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, dir: filepath.Join(dir, "s"), file: filepath.Join(dir, "fettle.yaml")}
	if err := os.WriteFile(r.file, []byte(poolFile), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", dir)
	t.Cleanup(func() {
		if out, err := r.command("down", "--force").CombinedOutput(); err != nil && !strings.Contains(string(out), api.ErrNoDaemon.Error()) {
			t.Errorf("down: %v: %s", err, out)
		}
		for pid, cmd := range processes(dir) {
			t.Errorf("left behind: %d %s", pid, cmd)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return r
}

func (r *rig) command(args ...string) *exec.Cmd {
	return exec.Command("fettle", append(args, "--state", r.dir)...)
}

func (r *rig) fettle(args ...string) string {
	r.t.Helper()
	out, err := r.command(args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("fettle %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// client of the daemon that runs now.
func (r *rig) client() *client.Client {
	r.t.Helper()
	rec, err := daemon.Find(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return client.New(rec.Socket)
}

func (r *rig) version() api.Version {
	r.t.Helper()
	v, err := r.client().Version(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) pool() api.PoolStatus {
	r.t.Helper()
	p, err := r.client().Pool(r.t.Context(), "web")
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// lives are the pids of the pool's instances.
func lives(p api.PoolStatus) map[fettle.Ref]int {
	out := map[fettle.Ref]int{}
	for _, in := range p.Instances {
		out[fettle.Ref{ID: in.ID, Generation: in.Generation}] = in.PID
	}
	return out
}

func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not in time: %s", what)
		}
	}
}

// load is a few clients that request without a pause; every answer but a 200 is a failure.
type load struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	sent   atomic.Int64
	failed atomic.Int64
	last   atomic.Value
}

func startLoad(addr string, clients int) *load {
	l := &load{stop: make(chan struct{})}
	for i := range clients {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 20 * time.Second}
		l.wg.Go(func() {
			defer c.CloseIdleConnections()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.sent.Add(1)
				if err := request(c, "http://"+addr+"/", i%3 == 0); err != nil {
					l.failed.Add(1)
					l.last.Store(err.Error())
				}
			}
		})
	}
	return l
}

func request(c *http.Client, url string, post bool) error {
	var resp *http.Response
	var err error
	if post {
		resp, err = c.Post(url, "text/plain", strings.NewReader("hello"))
	} else {
		resp, err = c.Get(url)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return err
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, last: %v", n, l.sent.Load(), l.last.Load())
	}
	t.Logf("%d requests", l.sent.Load())
}

// The brain is killed under load: no request fails, the same instances and the same router are adopted by the next
// daemon, and it can act on them.
func TestDaemonIsKilledUnderLoad(t *testing.T) {
	r := newRig(t)
	r.fettle("up", r.file, "--detach")
	before, v := r.pool(), r.version()
	l := startLoad(before.Address, 4)
	sent := func(n int64) { r.until("more requests", func() bool { return l.sent.Load() >= n }) }
	sent(100)
	if err := syscall.Kill(v.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until("the daemon is gone", func() bool { return !daemon.Held(r.dir) })
	sent(l.sent.Load() + 200)
	r.fettle("up", r.file, "--detach")
	sent(l.sent.Load() + 100)
	after, w := r.pool(), r.version()
	if w.Router != v.Router || w.PID == v.PID {
		t.Errorf("daemon %d, router %d became daemon %d, router %d", v.PID, v.Router, w.PID, w.Router)
	}
	if after.Address != before.Address {
		t.Errorf("served on %s, was on %s", after.Address, before.Address)
	}
	was, is := lives(before), lives(after)
	if len(is) != len(was) || len(is) != 3 {
		t.Errorf("instances %v became %v", was, is)
	}
	for ref, pid := range was {
		if is[ref] != pid {
			t.Errorf("%s had pid %d, has %d", ref, pid, is[ref])
		}
	}
	victim := after.Instances[0].ID
	r.until("acting is allowed", func() bool { return r.pool().HoldOff == "" })
	r.fettle("reset", string(victim), "--full")
	r.fettle("evict", string(after.Instances[1].ID))
	l.end(t)
	if p := r.pool(); p.Ready != 3 || len(p.Instances) != 3 {
		t.Errorf("%d of %d ready", p.Ready, len(p.Instances))
	}
}

// The router is killed: the listening socket stays, so that whoever connects from then on is served.
func TestRouterIsKilled(t *testing.T) {
	r := newRig(t)
	r.fettle("up", r.file, "--detach")
	before, v := r.pool(), r.version()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for range 2 {
		pid := r.version().Router
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.until("the router is gone", func() bool { return ended(pid) })
		for i := range 20 {
			if err := request(c, "http://"+before.Address+"/", i%2 == 0); err != nil {
				t.Fatalf("request %d after the router was killed: %v", i, err)
			}
		}
	}
	w := r.version()
	if w.Router == v.Router || w.PID != v.PID {
		t.Errorf("daemon %d, router %d became daemon %d, router %d", v.PID, v.Router, w.PID, w.Router)
	}
	after := r.pool()
	if after.Address != before.Address || after.Ready != 3 {
		t.Errorf("served on %s by %d", after.Address, after.Ready)
	}
	for ref, pid := range lives(before) {
		if lives(after)[ref] != pid {
			t.Errorf("%s had pid %d, has %d", ref, pid, lives(after)[ref])
		}
	}
}

// ended tells whether a process runs no longer.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// foreground starts fettle up in the foreground and returns when the pool is ready.
func (r *rig) foreground() (cmd *exec.Cmd, out *bytes.Buffer) {
	r.t.Helper()
	out = &bytes.Buffer{}
	cmd = r.command("up", r.file)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.until("the pool is ready", func() bool {
		rec, err := daemon.Find(r.dir)
		if err != nil {
			return false
		}
		p, err := client.New(rec.Socket).Pool(r.t.Context(), "web")
		return err == nil && p.Ready == 3
	})
	return cmd, out
}

// Ctrl-C finishes what is in flight, and then nothing is left.
func TestInterruptFinishesRequests(t *testing.T) {
	r := newRig(t)
	cmd, out := r.foreground()
	addr := r.pool().Address
	got := make(chan error, 1)
	go func() { got <- request(http.DefaultClient, "http://"+addr+"/?sleep=1500ms", false) }()
	r.until("a request is in flight", func() bool { return r.pool().Traffic.InFlight > 0 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A second signal does not wait for what is in flight.
func TestSecondInterruptForces(t *testing.T) {
	r := newRig(t)
	cmd, out := r.foreground()
	addr := r.pool().Address
	go func() { _ = request(http.DefaultClient, "http://"+addr+"/?sleep=10m", false) }()
	r.until("a request is in flight", func() bool { return r.pool().Traffic.InFlight > 0 })
	c := r.client()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.until("it drains", func() bool {
		p, err := c.Pool(t.Context(), "web")
		return err == nil && p.Ready == 0
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	case <-time.After(25 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("it still waits")
	}
}

// A signal to a daemon that was told to keep ends the daemon only.
func TestSignalKeeps(t *testing.T) {
	r := newRig(t)
	r.fettle("up", r.file, "--detach")
	before := r.pool()
	if err := syscall.Kill(r.version().PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.until("the daemon is gone", func() bool { return !daemon.Held(r.dir) })
	if err := request(http.DefaultClient, "http://"+before.Address+"/", false); err != nil {
		t.Errorf("without a daemon: %v", err)
	}
}

// Metrics are served on the address that was asked for, and nothing else is.
func TestMetrics(t *testing.T) {
	r := newRig(t)
	r.fettle("up", r.file, "--detach", "--metrics", ":0")
	v := r.version()
	if !strings.HasPrefix(v.Metrics, "127.0.0.1:") {
		t.Fatalf("metrics on %q", v.Metrics)
	}
	if err := request(http.DefaultClient, "http://"+r.pool().Address+"/", false); err != nil {
		t.Fatal(err)
	}
	var text string
	r.until("the request is counted", func() bool {
		resp, err := http.Get("http://" + v.Metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
		return strings.Contains(text, `fettle_requests_total{pool="web",status="2xx"} 1`)
	})
	for _, want := range []string{
		`fettle_up{pool="web"} 1`, `fettle_instances{phase="ready",pool="web"} 3`, `fettle_drift_score{instance="web-1",pool="web"}`,
		`fettle_actions_total{outcome="done",pool="web",verb="start"} 3`, `fettle_learning_progress{instance="web-2",pool="web"}`,
		`fettle_requests_lost_total{kind="no-instance",pool="web"} 0`, `fettle_engine_step_seconds_count{pool="web"}`,
		`fettle_journal_failing{pool="web"} 0`, `fettle_engine_stalled{pool="web"} 0`, `fettle_retries_total{pool="web"} 0`,
		`fettle_instance_answers_total{instance="web-1",pool="web",status="5xx"} 0`, `fettle_instance_answers_total{instance="web-2",pool="web",status="none"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	resp, err := http.Get("http://" + v.Metrics + "/v1/pools")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the API answers on the metrics address: %s", resp.Status)
	}
}

// Who pipes the story away may end the reader, as Ctrl-C does: the pool runs on, and at Ctrl-C it is drained.
func TestNobodyReadsTheStory(t *testing.T) {
	r := newRig(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := r.command("up", r.file)
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if _, err := read.Read(make([]byte, 1)); err != nil { // as head -1
		t.Fatal(err)
	}
	read.Close()
	r.until("the pool is ready", func() bool {
		rec, err := daemon.Find(r.dir)
		if err != nil {
			return false
		}
		p, err := client.New(rec.Socket).Pool(t.Context(), "web")
		return err == nil && p.Ready == 3
	})
	before := r.pool()
	for _, in := range before.Instances {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.PID))
		if err != nil {
			t.Fatal(err)
		}
		var ignored uint64
		_, line, _ := strings.Cut(string(b), "SigIgn:")
		if _, err := fmt.Sscanf(line, "%x", &ignored); err != nil {
			t.Fatal(err)
		}
		if ignored&(1<<(syscall.SIGPIPE-1)) != 0 {
			t.Errorf("%s was started with SIGPIPE ignored", in.ID)
		}
	}
	r.fettle("pause", "web") // there is something to tell
	got := make(chan error, 1)
	go func() { got <- request(http.DefaultClient, "http://"+before.Address+"/?sleep=1500ms", false) }()
	r.until("a request is in flight", func() bool { return r.pool().Traffic.InFlight > 0 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left := processes(filepath.Dir(r.dir)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Instances of another user get through a state directory that Fettle made, and can read nothing of it but their own.
func TestAnotherUserInAFreshStateDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts processes as somebody else")
	}
	r := newRig(t)
	for _, d := range []string{filepath.Dir(filepath.Dir(r.dir)), filepath.Dir(r.dir)} { // the test's own, which are private
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.dir = filepath.Join(r.dir, "deep", "state")
	pools := "pools: [{name: web, mode: observe, serve: none, size: {min: 1}, image: {user: nobody, command: [sleep, '1000']}}]"
	if err := os.WriteFile(r.file, []byte(pools), 0o600); err != nil {
		t.Fatal(err)
	}
	r.fettle("up", r.file, "--detach")
	r.until("it is ready", func() bool { return r.pool().Ready == 1 })
	files, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if f.IsDir() && st.Mode().Perm()&0o066 != 0 || !f.IsDir() && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), st.Mode())
		}
	}
}

// What a pool was scaled to ends with the pool.
func TestScaleEndsWithThePool(t *testing.T) {
	r := newRig(t)
	r.fettle("up", r.file, "--detach")
	r.fettle("scale", "web", "0")
	r.fettle("down", "web")
	r.fettle("up", r.file)
	r.until("as many run as the file says", func() bool { p := r.pool(); return p.Desired == 3 && p.Ready == 3 })
	r.fettle("scale", "web", "1")
	r.fettle("down")
	r.fettle("up", r.file, "--detach")
	r.until("as many run after all was down", func() bool { p := r.pool(); return p.Desired == 3 && p.Ready == 3 })
	r.fettle("scale", "web", "2")
	r.fettle("down", "--keep")
	r.fettle("up", r.file, "--detach")
	if p := r.pool(); p.Desired != 2 {
		t.Errorf("a daemon that ended took what was scaled along: %d are wanted", p.Desired)
	}
}
