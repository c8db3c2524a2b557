package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// notUsed is what the log has of a baseline that is dropped.
const notUsed = "what was learnt cannot be used"

// watches runs a daemon on a state directory until use returns, and gives its log.
func watches(t *testing.T, dir string, p fettle.Pool, use func(*running)) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer // Run has ended when it is read
	ready, done := make(chan *client.Client, 1), make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			StateDir: dir, Pools: []fettle.Pool{p}, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Ready: func(c *client.Client) { ready <- c },
		})
	}()
	select {
	case c := <-ready:
		use(&running{c, t})
	case err := <-done:
		t.Fatalf("the daemon did not start: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
	return log.String()
}

// What was learnt before is told of, as the baseline or as lost with the columns, once something was learnt, not before.
func TestOnlyWhatWasLearntIsABaseline(t *testing.T) {
	if testing.Short() {
		t.Skip("learns for some seconds")
	}
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	for _, x := range []struct {
		name   string
		learn  time.Duration
		learnt bool
	}{{"not yet", time.Hour, false}, {"learnt", 3 * time.Second, true}} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			p := fettle.Pool{Name: "w", Watch: &fettle.Watch{PIDs: []int{c.Process.Pid}}}
			p.Detect.Interval, p.Detect.Learn = fettle.Duration(100*time.Millisecond), fettle.Duration(x.learn)
			watches(t, dir, p, func(d *running) {
				d.until("it is measured for a while", func(s api.PoolStatus) bool {
					return len(s.Instances) == 1 && s.Instances[0].Progress > 0 && (!x.learnt || s.Instances[0].Level != fettle.Learning)
				})
			})
			again := watches(t, dir, p, func(d *running) {
				if s := d.until("it is there", func(s api.PoolStatus) bool { return len(s.Instances) == 1 }); s.Baseline != x.learnt {
					t.Errorf("is what was learnt the baseline: %t", s.Baseline)
				}
				other := p
				other.Metrics = &fettle.Metrics{Port: "1", Series: []fettle.Series{{Metric: "depth"}}}
				if _, err := d.Apply(t.Context(), []fettle.Pool{other}); err != nil {
					t.Fatal(err)
				}
				if s := d.until("it is there", func(s api.PoolStatus) bool { return len(s.Instances) == 1 }); s.Baseline {
					t.Error("what was learnt of other columns is the baseline")
				}
			})
			if strings.Contains(again, notUsed) != x.learnt {
				t.Errorf("the log, after the columns changed:\n%s", again)
			}
		})
	}
}

// An address that is taken is a conflict with a process that has a name; other errors are what they were.
func TestWhoTookAnAddressIsSaid(t *testing.T) {
	for _, x := range []struct{ taken, wanted string }{
		{"127.0.0.1:0", "127.0.0.1:%d"}, {"127.0.0.1:0", ":%d"}, {"[::]:0", "127.0.0.1:%d"}, {"[::1]:0", "[::1]:%d"},
	} {
		l, err := net.Listen("tcp", x.taken)
		if err != nil {
			t.Logf("not here: %v", err)
			continue
		}
		wanted := fmt.Sprintf(x.wanted, l.Addr().(*net.TCPAddr).Port)
		_, err = net.Listen("tcp", wanted)
		got := taken(fmt.Errorf("listen on %s: %w", wanted, err), wanted)
		if !errors.Is(got, fettle.ErrConflict) || !strings.Contains(got.Error(), fmt.Sprintf("daemon.test, pid %d", os.Getpid())) {
			t.Errorf("%s has it, %s is wanted: %v", x.taken, wanted, got)
		}
		l.Close()
	}
	for _, err := range []error{nil, fettle.ErrInvalid} {
		if got := taken(err, ":1"); !errors.Is(got, err) || errors.Is(got, fettle.ErrConflict) {
			t.Errorf("%v became %v", err, got)
		}
	}
}
