//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
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
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fettle-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "fettle")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/fettle").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// daemon is a foreground `fettle up` and its files.
type daemon struct {
	t     *testing.T
	state string
	cmd   *exec.Cmd
	out   *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("FETTLE_E2E_ALL") != "" {
				t.Fatalf("%s is not installed here, and FETTLE_E2E_ALL asks for all tests", p)
			}
			t.Skipf("%s is not installed here", p)
		}
	}
}

// up writes the pool file and starts the daemon; it is stopped, and must leave nothing behind, at the end of the test.
func up(t *testing.T, file string) *daemon {
	t.Helper()
	d := &daemon{t: t, state: t.TempDir(), out: &syncBuffer{}}
	path := filepath.Join(d.state, "fettle.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(binary, "up", path, "--state", d.state)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.down)
	return d
}

func (d *daemon) down() {
	d.cmd.Process.Signal(syscall.SIGINT)
	done := make(chan error, 1)
	go func() { done <- d.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			d.t.Errorf("fettle up: %v\n%s", err, d.out)
		}
	case <-time.After(time.Minute):
		d.cmd.Process.Kill()
		d.t.Errorf("fettle up did not stop within a minute of SIGINT\n%s", d.out)
	}
	if d.t.Failed() {
		d.t.Logf("output of the daemon:\n%s", d.out)
	}
	if left, _ := exec.Command("pgrep", "-f", d.state).Output(); len(left) > 0 {
		d.t.Errorf("processes left behind: %s", left)
	}
}

// fettle runs one command of the CLI against the daemon.
func (d *daemon) fettle(args ...string) (string, error) {
	var out, errs bytes.Buffer
	c := exec.Command(binary, append(args, "--state", d.state)...)
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("fettle %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), err
}

func (d *daemon) pool(name string) (p api.PoolStatus, err error) {
	out, err := d.fettle("ps", name, "-o", "json")
	if err != nil {
		return p, err
	}
	var ps []api.PoolStatus
	if err := json.Unmarshal([]byte(out), &ps); err != nil {
		return p, fmt.Errorf("ps -o json: %w in %q", err, out)
	}
	for _, p := range ps {
		if string(p.Name) == name {
			return p, nil
		}
	}
	return p, fmt.Errorf("ps -o json shows no pool %s", name)
}

// until polls a condition; what it returns last is the failure's text.
func until(t *testing.T, within time.Duration, what string, cond func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		ok, last := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s; last: %s", what, within, last)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (d *daemon) ready(pool string, n int) {
	d.t.Helper()
	until(d.t, time.Minute, fmt.Sprintf("%d ready instances of %s", n, pool), func() (bool, string) {
		p, err := d.pool(pool)
		if err != nil {
			return false, err.Error()
		}
		return p.Ready >= n, fmt.Sprintf("%d ready, degraded: %q", p.Ready, p.DegradedWhy)
	})
}

// events are the entries of the log of one kind.
func (d *daemon) events(kind string) []fettle.Event {
	d.t.Helper()
	out, err := d.fettle("log", "--kind", kind, "-o", "json")
	if err != nil {
		d.t.Fatal(err)
	}
	var es []fettle.Event
	for line := range strings.Lines(out) {
		var l api.LogEntry
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			d.t.Fatalf("log -o json: %v in %q", err, line)
		}
		e, err := l.Decode()
		if err != nil {
			d.t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

// freeAddr is a loopback address that nothing listens on now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// load sends requests at a steady rate, not waiting for answers, and counts those that got none or a 5xx.
type load struct {
	sent, lost atomic.Int64
	last       atomic.Value
	stop       func()
}

func drive(t *testing.T, addr string, perSecond int, path func(i int) string) *load {
	t.Helper()
	l := &load{}
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			wg.Go(func() {
				l.sent.Add(1)
				resp, err := client.Get("http://" + addr + path(i))
				if err != nil {
					l.lost.Add(1)
					l.last.Store(err.Error())
					return
				}
				var b bytes.Buffer
				_, err = b.ReadFrom(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode >= 500 {
					l.lost.Add(1)
					l.last.Store(fmt.Sprintf("status %d, %v, %s by %s", resp.StatusCode, err, resp.Header.Get("X-Fettle-Error"), resp.Header.Get("X-Fettle-Instance")))
				}
			})
		}
	})
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); client.CloseIdleConnections() })
	t.Cleanup(l.stop)
	return l
}
