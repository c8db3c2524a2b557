//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// Instances of python3 -m http.server are reset and evicted one after the other while wrk drives them: nothing is lost.
func TestNothingLostWhileInstancesAreResetAndEvicted(t *testing.T) {
	need(t, "python3", "wrk")
	addr := freeAddr(t)
	d := up(t, fmt.Sprintf(`
pools:
  - name: files
    mode: heal
    listen: %q
    size: {min: 3, max: 4}
    image:
      command: [python3, -m, http.server, --bind, 127.0.0.1, $PORT]
      dir: %s
`, addr, mustAbs(t, "testdata")))
	d.ready("files", 3)
	wrk := exec.Command("wrk", "-t1", "-c8", "-d25s", "http://"+addr+"/stall.js")
	out := &syncBuffer{}
	wrk.Stdout, wrk.Stderr = out, out
	if err := wrk.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := d.pool("files")
	if err != nil {
		t.Fatal(err)
	}
	generations := map[fettle.InstanceID]uint32{}
	for _, in := range p.Instances {
		generations[in.ID] = in.Generation
	}
	for _, in := range p.Instances[:2] {
		if _, err := d.fettle("reset", string(in.ID), "--full", "--force"); err != nil {
			t.Fatal(err)
		}
	}
	evicted := p.Instances[2].ID
	if _, err := d.fettle("evict", string(evicted), "--force"); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "two resets and an eviction", func() (bool, string) {
		p, err := d.pool("files")
		if err != nil {
			return false, err.Error()
		}
		reset := 0
		for _, in := range p.Instances {
			if in.ID == evicted {
				return false, "the evicted instance is still there"
			}
			if g, ok := generations[in.ID]; ok && in.Generation == g+1 && in.Phase == fettle.Ready {
				reset++
			}
		}
		return reset == 2 && p.Ready == 3, fmt.Sprintf("%d reset, %d ready", reset, p.Ready)
	})
	if err := wrk.Wait(); err != nil {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	if m := regexp.MustCompile(`(?m)^\s*(Socket errors:.*|Non-2xx.*)$`).FindString(out.String()); m != "" {
		t.Errorf("wrk lost requests: %s\n%s", m, out)
	}
	t.Logf("wrk:\n%s", out)
	if p, err = d.pool("files"); err != nil {
		t.Fatal(err)
	}
	for kind, n := range p.Traffic.Lost {
		if n > 0 {
			t.Errorf("the router lost %d requests: %s", n, kind)
		}
	}
}

// One of three gunicorn masters (two workers each) begins to leak: explain names memory, the instance, and since when.
func TestLeakingGunicornIsExplained(t *testing.T) {
	need(t, "gunicorn")
	addr := freeAddr(t)
	d := up(t, fmt.Sprintf(`
pools:
  - name: wsgi
    mode: observe
    listen: %q
    size: {min: 3}
    image:
      command: [gunicorn, --workers, "2", --bind, "127.0.0.1:$PORT", --chdir, $FETTLE_DATA, leaky:app]
      dir: %s
    limits: {memory: 1GiB}
    detect: {interval: 500ms, learn: 60s}
`, addr, mustAbs(t, "testdata")))
	d.ready("wsgi", 3)
	l := drive(t, addr, 60, func(i int) string { return fmt.Sprintf("/item/%d", i%50) })
	var victim api.InstanceStatus
	until(t, 3*time.Minute, "a first verdict of all instances", func() (bool, string) {
		p, err := d.pool("wsgi")
		if err != nil {
			return false, err.Error()
		}
		for _, in := range p.Instances {
			if in.Level == fettle.Learning {
				return false, fmt.Sprintf("%s has learnt %.0f %%, first verdict in %s", in.ID, 100*in.Progress, in.FirstVerdictIn)
			}
			if in.Level != fettle.Steady {
				return false, fmt.Sprintf("%s is not steady: %s", in.ID, in.Text)
			}
		}
		victim = p.Instances[1]
		return true, ""
	})
	planted := time.Now()
	resp, err := http.Get("http://" + strings.TrimPrefix(victim.Endpoint, "tcp:") + "/plant-leak")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	var text string
	until(t, 2*time.Minute, "explain names memory", func() (bool, string) {
		in, err := instance(d, "wsgi", victim.ID)
		if err != nil {
			return false, err.Error()
		}
		if in.Level < fettle.Medium || in.Cause != fettle.InstanceChanged {
			return false, fmt.Sprintf("%s, %s: %s", in.Level, in.Cause, in.Text)
		}
		if !slices.ContainsFunc(in.Evidence, func(e fettle.Evidence) bool { return strings.HasPrefix(e.Dimension, "memory") && e.Value > e.Usual }) {
			return false, "the evidence names no memory: " + in.Text
		}
		text, err = d.fettle("explain", string(victim.ID))
		return err == nil, fmt.Sprint(err)
	})
	t.Logf("%.0f s after the leak began:\n%s", time.Since(planted).Seconds(), text)
	for _, want := range []string{string(victim.ID), "memory", "instance changed", "since"} {
		if !strings.Contains(text, want) {
			t.Errorf("explain does not say %q:\n%s", want, text)
		}
	}
	p, err := d.pool("wsgi")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range p.Instances {
		if in.ID != victim.ID && in.Level > fettle.Low {
			t.Errorf("a healthy peer is called drifting: %s", in.Text)
		}
	}
	for _, e := range d.events("intended") {
		if v := e.(*fettle.Intended).Action.Verb; v != fettle.Start && v != fettle.Admit {
			t.Errorf("mode observe did something: %s", e)
		}
	}
	l.stop()
	if n := l.lost.Load(); n > 0 {
		t.Errorf("%d of %d requests lost, last: %v", n, l.sent.Load(), l.last.Load())
	}
}

// A Node server's event loop stalls for good: it leaves the routing at once and is replaced; others answer meanwhile.
func TestStalledNodeIsReplaced(t *testing.T) {
	need(t, "node")
	addr := freeAddr(t)
	d := up(t, fmt.Sprintf(`
pools:
  - name: node
    mode: heal
    listen: %q
    size: {min: 3}
    image:
      command: [node, stall.js]
      dir: %s
    limits: {silence: 5s}
    heal: {grace: 2s}
    probes: {readiness: {http: /ready, every: 500ms, timeout: 1s}}
`, addr, mustAbs(t, "testdata")))
	d.ready("node", 3)
	l := drive(t, addr, 50, func(i int) string { return fmt.Sprintf("/item/%d", i) })
	p, err := d.pool("node")
	if err != nil {
		t.Fatal(err)
	}
	victim := p.Instances[0]
	until(t, 30*time.Second, "traffic", func() (bool, string) {
		return l.sent.Load() > 200, fmt.Sprint(l.sent.Load())
	})
	resp, err := http.Get("http://" + strings.TrimPrefix(victim.Endpoint, "tcp:") + "/plant-stall")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	until(t, time.Minute, "the stalled instance is replaced", func() (bool, string) {
		p, err := d.pool("node")
		if err != nil {
			return false, err.Error()
		}
		for _, in := range p.Instances {
			if in.ID == victim.ID && in.Generation == victim.Generation {
				return false, fmt.Sprintf("%s is %s, unresponsive %v, %s", in.ID, in.Phase, in.Unresponsive, in.Operation)
			}
		}
		return p.Ready == 3, fmt.Sprintf("%d ready", p.Ready)
	})
	before := l.lost.Load()
	until(t, 30*time.Second, "traffic afterwards", func() (bool, string) {
		return l.sent.Load() > 1500, fmt.Sprint(l.sent.Load())
	})
	l.stop()
	// GETs in flight on the stalled instance are sent again elsewhere: at most those beyond the retry budget are lost to the fault.
	t.Logf("%d of %d requests lost to the fault itself, last: %v", before, l.sent.Load(), l.last.Load())
	if l.lost.Load() > before {
		t.Errorf("%d requests were lost after the replacement", l.lost.Load()-before)
	}
}

// redis-server takes no HTTP requests: a pool of workers. One is killed, one is stopped: both come back.
func TestRedisWorkersComeBack(t *testing.T) {
	need(t, "redis-server", "redis-cli")
	d := up(t, `
pools:
  - name: redis
    mode: heal
    serve: none
    size: {min: 3}
    image:
      command: [redis-server, --port, $PORT, --bind, 127.0.0.1, --save, "", --dir, $FETTLE_DATA]
    probes:
      startup: {tcp: true}
      liveness: {command: [sh, -c, 'redis-cli -p "$PORT" ping | grep -q PONG'], every: 1s, timeout: 1s, failures: 3}
    heal: {grace: 2s}
`)
	d.ready("redis", 3)
	p, err := d.pool("redis")
	if err != nil {
		t.Fatal(err)
	}
	killed, stopped := p.Instances[0], p.Instances[1]
	for pid, sig := range map[int]syscall.Signal{killed.PID: syscall.SIGKILL, stopped.PID: syscall.SIGSTOP} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 90*time.Second, "three ready workers, none of them the killed or the stopped process", func() (bool, string) {
		p, err := d.pool("redis")
		if err != nil {
			return false, err.Error()
		}
		for _, in := range p.Instances {
			if in.PID == killed.PID || in.PID == stopped.PID {
				return false, fmt.Sprintf("%s still has pid %d (%s)", in.ID, in.PID, in.Phase)
			}
		}
		return p.Ready == 3, fmt.Sprintf("%d ready", p.Ready)
	})
	if len(d.events("exited")) == 0 {
		t.Error("the log says nothing of the killed worker")
	}
	if len(d.events("unresponsive")) == 0 {
		t.Error("the log says nothing of the stopped worker")
	}
}

func instance(d *daemon, pool string, id fettle.InstanceID) (api.InstanceStatus, error) {
	p, err := d.pool(pool)
	if err != nil {
		return api.InstanceStatus{}, err
	}
	for _, in := range p.Instances {
		if in.ID == id {
			return in, nil
		}
	}
	return api.InstanceStatus{}, fmt.Errorf("no instance %s", id)
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
