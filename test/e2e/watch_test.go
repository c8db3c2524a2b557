//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// watching starts `fettle watch` in the foreground; at the end it must leave the servers as they were.
func watching(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, state: t.TempDir(), out: &syncBuffer{}}
	d.cmd = exec.Command(binary, append([]string{"watch", "--state", d.state}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.down)
	return d
}

// serves starts a server that Fettle does not run, and waits until it answers.
func serves(t *testing.T, addr, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), "FETTLE_DATA="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := &syncBuffer{}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	until(t, time.Minute, name+" at "+addr, func() (bool, string) {
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			return false, err.Error() + "\n" + out.String()
		}
		resp.Body.Close()
		return true, ""
	})
	return c
}

// imprint is what could be changed of a process from outside.
func imprint(t *testing.T, pid int) string {
	t.Helper()
	var b strings.Builder
	for _, f := range []string{"cgroup", "limits", "oom_score_adj", "autogroup", "coredump_filter"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", f, text)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		for _, k := range []string{"PPid:", "TracerPid:", "SigPnd:", "ShdPnd:", "SigBlk:", "Cpus_allowed:"} {
			if strings.HasPrefix(line, k) {
				b.WriteString(line)
			}
		}
	}
	prio, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid)
	fmt.Fprintf(&b, "priority %d %v\n", prio, err)
	return b.String()
}

// One of three gunicorn masters that run already begins to leak: fettle watch explains it, and touches none of them.
func TestLeakingGunicornIsExplainedUnderWatch(t *testing.T) {
	need(t, "gunicorn")
	var addrs []string
	var masters []*exec.Cmd
	for range 3 {
		addr := freeAddr(t)
		addrs = append(addrs, addr)
		masters = append(masters, serves(t, addr, mustAbs(t, "testdata"), "gunicorn", "--workers", "2", "--bind", addr, "leaky:app"))
	}
	var before []string
	for _, c := range masters {
		before = append(before, imprint(t, c.Process.Pid))
	}
	var loads []*load
	for _, addr := range addrs {
		loads = append(loads, drive(t, addr, 20, func(i int) string { return fmt.Sprintf("/item/%d", i%50) }))
	}
	pids := []string{}
	for _, c := range masters {
		pids = append(pids, fmt.Sprint(c.Process.Pid))
	}
	d := watching(t, append([]string{"--name", "wsgi", "--interval", "500ms", "--learn", "60s", "--memory-limit", "1GiB"}, pids...)...)
	var p api.PoolStatus
	until(t, 3*time.Minute, "a first verdict of all instances", func() (ok bool, last string) {
		var err error
		if p, err = d.pool("wsgi"); err != nil {
			return false, err.Error()
		}
		for _, in := range p.Instances {
			if in.Level != fettle.Steady {
				return false, fmt.Sprintf("%s is %s, progress %.0f %%: %s", in.ID, in.Level, 100*in.Progress, in.Text)
			}
		}
		return len(p.Instances) == 3, fmt.Sprintf("%d instances", len(p.Instances))
	})
	victim := p.Instances[1]
	resp, err := http.Get("http://" + strings.TrimPrefix(victim.Endpoint, "tcp:") + "/plant-leak")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	planted := time.Now()
	var text string
	until(t, 3*time.Minute, "explain names memory", func() (bool, string) {
		in, err := instance(d, "wsgi", victim.ID)
		if err != nil {
			return false, err.Error()
		}
		if in.Level < fettle.Medium || in.Cause == fettle.WorkloadChanged || len(p.Work) > 0 && in.Cause != fettle.InstanceChanged {
			return false, fmt.Sprintf("%s, %s: %s", in.Level, in.Cause, in.Text)
		}
		if !slices.ContainsFunc(in.Evidence, func(e fettle.Evidence) bool { return strings.HasPrefix(e.Dimension, "memory") && e.Value > e.Usual }) {
			return false, "the evidence names no memory: " + in.Text
		}
		text, err = d.fettle("explain", string(victim.ID))
		return err == nil && strings.Contains(text, "it is only watched; were it run by Fettle"), fmt.Sprintf("%v: %s", err, text)
	})
	t.Logf("%.0f s after the leak began:\n%s", time.Since(planted).Seconds(), text)
	if out, err := d.fettle("plan"); err != nil || !strings.Contains(out, "only watched: this is what mode heal would do") || !strings.Contains(out, string(victim.ID)) {
		t.Errorf("plan: %v: %s", err, out)
	}
	if p, err = d.pool("wsgi"); err != nil {
		t.Fatal(err)
	}
	for _, in := range p.Instances {
		if in.ID != victim.ID && in.Level > fettle.Low {
			t.Errorf("a healthy peer is called drifting: %s", in.Text)
		}
	}
	for _, kind := range []string{"opened", "intended"} {
		if es := d.events(kind); len(es) > 0 {
			t.Errorf("something was done: %v", es)
		}
	}
	for i, c := range masters {
		if is := imprint(t, c.Process.Pid); is != before[i] {
			t.Errorf("server %d while watched:\n%s\nwas:\n%s", i, is, before[i])
		}
	}
	for _, l := range loads {
		l.stop()
		if n := l.lost.Load(); n > 0 {
			t.Errorf("%d of %d requests lost, last: %v", n, l.sent.Load(), l.last.Load())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(d.state, "instances*")); len(left) > 0 {
		t.Errorf("it has instances of its own: %v", left)
	}
}
