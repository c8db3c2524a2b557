//go:build stress

package stress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry"
)

// netnsArg makes the test's own program bring up the loopback interface of its namespace and become the rest of its arguments.
const netnsArg = "internal-netns"

// shell is the instance: it stays while stress-ng runs below it, so that all that ended processes did is counted in it.
const shell = `echo ready; read go; "$@" >"$LOG" 2>&1; echo "ended $?"; read end`

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == netnsArg {
		fmt.Fprintln(os.Stderr, becomeWithLoopback(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) == 5 && os.Args[1] == ownArg {
		if err := becomeOwn(os.Args[2:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// becomeWithLoopback returns only when it fails.
func becomeWithLoopback(args []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	if queue := strings.Fields(os.Getenv("QUEUE")); len(queue) > 0 {
		if err := narrow(fd, queue); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, args, os.Environ())
}

// narrow makes the loopback interface, which loses nothing, one with a queue that does, for packets as on a wire.
func narrow(fd int, queue []string) error {
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("packets of the loopback interface: %w", err)
	}
	req.SetUint32(1500)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, req); err != nil {
		return fmt.Errorf("packets of the loopback interface: %w", err)
	}
	tc := exec.Command("tc", append([]string{"qdisc", "add", "dev", "lo", "root"}, queue...)...)
	if out, err := tc.CombinedOutput(); err != nil {
		return fmt.Errorf("queue of the loopback interface: %s: %w (tc is of Debian's package iproute2): %s", tc, err, out)
	}
	return nil
}

// narrows tells whether this machine can.
func narrows(queue string) error {
	if queue == "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self, netnsArg, "true")
	c.Env = append(os.Environ(), "QUEUE="+queue)
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// run is one worker under measurement.
type run struct {
	worker *Worker
	dir    string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	said   *bufio.Reader
	callee *callee    // of a worker that calls others
	ended  chan error // of the worker
	length time.Duration
	took   float64 // seconds from the start of the worker to the last look

	sampler *telemetry.Sampler
	frame   *ft.Frame
	member  []ft.Instance
	last    time.Time
	sums    map[string]float64   // of counters
	shots   map[string][]float64 // of other gauges and of truths that are looked at meanwhile
}

const (
	// runFor is how long stress-ng works, and lookEvery how often telemetry looks. The working set is that of setEvery.
	runFor    = 7 * time.Second
	ownFor    = 4 * time.Second // the test's own programs, which begin at once
	lookEvery = 500 * time.Millisecond
	setEvery  = 2 * time.Second
	// burst of counting system calls, longer than all else takes.
	burst = runFor + 6*time.Second
	// warmUp is left out of gauges.
	warmUp = 1500 * time.Millisecond
)

// begin starts the shell and attaches to it.
func begin(t *testing.T, w *Worker, probes *telemetry.Probes) *run {
	t.Helper()
	r := &run{worker: w, dir: t.TempDir(), sums: map[string]float64{}, shots: map[string][]float64{}, ended: make(chan error, 1)}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"sh", "-c", shell, "sh"}, r.command(t, self)...)
	attr := &unix.SysProcAttr{Setsid: true}
	if w.Net {
		args = append([]string{self, netnsArg}, args...)
		attr.Cloneflags = unix.CLONE_NEWNET
	}
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.SysProcAttr, r.cmd.Stderr = attr, os.Stderr
	r.cmd.Env = append(os.Environ(), "LOG="+filepath.Join(r.dir, "log"), "QUEUE="+w.Queue)
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.said = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", args[0], err)
	}
	t.Cleanup(func() { _ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL) }) // the session's group, where a test failed
	if line, err := r.said.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the shell said %q: %v", line, err)
	}
	if r.sampler, err = telemetry.New(slog.New(slog.DiscardHandler), sources(probes, w.Calls)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.sampler.Close() })
	r.frame = &ft.Frame{Schema: r.sampler.Schema(), Rows: make([]ft.Row, 1)}
	r.member = []ft.Instance{{Ref: ft.Ref{ID: ft.NewInstanceID(ft.PoolName(w.Name), 1), Generation: 1}, Scope: ft.Scope{PID: r.cmd.Process.Pid}}}
	return r
}

// command is the worker's.
func (r *run) command(t *testing.T, self string) []string {
	t.Helper()
	w := r.worker
	if w.Own == "" {
		r.length = runFor
		args := []string{"stress-ng", "--timeout", strconv.Itoa(int(runFor.Seconds())), "--metrics", "--yaml", filepath.Join(r.dir, "metrics.yaml"), "--temp-path", r.dir}
		return append(args, strings.Fields(w.Run)...)
	}
	where := r.dir
	if w.Own == "call" {
		var err error
		if r.callee, err = newCallee(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.callee.l.Close() })
		where = r.callee.l.Addr().String()
	}
	r.length = ownFor
	return []string{"env", "GOMAXPROCS=1", self, ownArg, w.Own, where, ownFor.String()}
}

// sources are all but control groups. With calls, one burst covers the whole run, so that its counts are exact.
func sources(p *telemetry.Probes, calls bool) []ft.Source {
	set := ft.WorkingSet{Collect: ft.On, Every: ft.Duration(setEvery), Budget: 0.1}
	out := []ft.Source{p.Network(false), telemetry.ProcFS(), telemetry.WorkingSet(set)}
	if calls {
		out = append(out, p.Syscalls(ft.Syscalls{Collect: ft.On, Budget: 1, Burst: ft.Duration(burst)}))
	}
	return out
}

// look samples once; from the start of stress-ng on, working tells whether gauges count.
func (r *run) look(now time.Time, working bool) error {
	r.frame.Reset(1)
	if err := r.sampler.Sample(context.Background(), now, r.member, r.frame); err != nil {
		return err
	}
	span := now.Sub(r.last).Seconds()
	r.last = now
	for c := range r.frame.Schema.Len() {
		d, v := r.frame.Schema.At(c), r.frame.Value(0, c)
		switch {
		case math.IsNaN(v):
		case d.Kind == ft.Counter, d.Unit == "cores": // what is over the time since the last look
			r.sums[d.Name] += v * span
		case working:
			r.shots[d.Name] = append(r.shots[d.Name], v)
		}
	}
	for i, n := range r.frame.Counts {
		r.sums["calls."+r.frame.Labels[i]] += float64(n)
	}
	if working {
		for name, v := range session(r.cmd.Process.Pid) {
			r.shots[name] = append(r.shots[name], v)
		}
	}
	return nil
}

// measure lets stress-ng go, looks until it has ended, and once after.
func (r *run) measure() error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for range 3 { // rates begin with the second look, and what is usual between looks is known then
		<-tick.C
		if err := r.look(time.Now(), false); err != nil {
			return err
		}
	}
	started := time.Now()
	if _, err := io.WriteString(r.stdin, "go\n"); err != nil {
		return fmt.Errorf("let stress-ng go: %w", err)
	}
	go func() { r.ended <- r.await() }()
	for {
		select {
		case err := <-r.ended:
			if err != nil {
				return err
			}
			<-tick.C // a rate over too short a time is none
			r.took = time.Since(started).Seconds()
			if err := r.look(time.Now(), false); err != nil {
				return err
			}
			return r.awaitCalls(tick)
		case now := <-tick.C:
			since := now.Sub(started)
			if err := r.look(time.Now(), since > warmUp && since < r.length); err != nil {
				return err
			}
		}
	}
}

// awaitCalls looks until the burst has ended: its counts are told then.
func (r *run) awaitCalls(tick *time.Ticker) error {
	for end := time.Now().Add(2 * burst); r.worker.Calls && r.sums["calls.process"] == 0; <-tick.C {
		if time.Now().After(end) {
			return errors.New("the burst that counts system calls did not end")
		}
		if err := r.look(time.Now(), false); err != nil {
			return err
		}
	}
	return nil
}

// await waits for stress-ng.
func (r *run) await() error {
	line, err := r.said.ReadString('\n')
	if err == nil && line == "ended 0\n" {
		return nil
	}
	log, _ := os.ReadFile(filepath.Join(r.dir, "log")) // as far as it got
	return errors.Join(fmt.Errorf("%s: %q\n%s", r.worker.Name, line, log), err)
}

// result is what telemetry says, by dimension.
func (r *run) result() map[string]float64 {
	m := map[string]float64{}
	for name, sum := range r.sums {
		m[name] = sum / r.took
	}
	for c := range r.frame.Schema.Len() {
		d := r.frame.Schema.At(c)
		if shots := r.shots[d.Name]; d.Kind == ft.Gauge && len(shots) > 0 {
			m[d.Name] = median(shots)
		}
	}
	return m
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
