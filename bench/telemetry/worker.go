package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/cgroup"
)

// workerArg makes this program a worker; the argument after it is its control group as JSON.
const workerArg = "internal-worker"

// begun is how long all workers together may take to start.
const begun = 3 * time.Minute

// worker is a small server of which many run: each second it touches half of its memory and calls itself, and it serves
// metrics. It ends with the program that started it, which holds the other end of its standard input.
func worker(group string) {
	runtime.GOMAXPROCS(1)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until its end
		os.Exit(0)
	}()
	if err := work(group); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func work(group string) error {
	var g cgroup.Group
	if err := json.Unmarshal([]byte(group), &g); err != nil {
		return fmt.Errorf("read the control group: %w", err)
	}
	if err := g.Join(); err != nil {
		return err
	}
	memory := make([]byte, 2<<20)
	for i := range memory {
		memory[i] = byte(i)
	}
	calls, err := echo()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var messages atomic.Int64
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, exposition(messages.Load())) // who asked may be gone
	})
	go func() { _ = http.Serve(l, nil) }() //nolint:gosec // on loopback, for as long as the benchmark runs
	fmt.Println(os.Getpid(), l.Addr())
	message := make([]byte, 200)
	for range time.Tick(time.Second) {
		for i := 0; i < len(memory)/2; i += 4096 {
			memory[i]++
		}
		if _, err := calls.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(calls, message); err != nil {
			return err
		}
		messages.Add(1)
	}
	return nil
}

// echo is a TCP connection to a server of this same program that sends back what it gets.
func echo() (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }() // its one connection is made
	calls, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	answers, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() {
		message := make([]byte, 4096)
		for n, err := 0, error(nil); err == nil; _, err = answers.Write(message[:n]) {
			n, _ = answers.Read(message) // at the end writing fails too
		}
	}()
	return calls, nil
}

// messagesMetric is the one that is taken from what workers serve.
const messagesMetric = "worker_messages_total"

// exposition is what a worker serves: as long as what a small Go program with Prometheus' own client serves, some 7 KiB.
func exposition(messages int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# HELP %s Messages sent.\n# TYPE %[1]s counter\n%[1]s %d\n", messagesMetric, messages)
	for i := range 8 {
		name := fmt.Sprintf("worker_step_%d_duration_seconds", i)
		fmt.Fprintf(&b, "# HELP %s Time that the step takes.\n# TYPE %[1]s histogram\n", name)
		for le := 0.001; le < 5; le *= 2 {
			fmt.Fprintf(&b, "%s_bucket{le=\"%g\"} %d\n", name, le, messages)
		}
		fmt.Fprintf(&b, "%s_bucket{le=\"+Inf\"} %d\n%[1]s_sum %[3]g\n%[1]s_count %[2]d\n", name, messages, float64(messages)/8)
	}
	return b.String()
}

// workers are running workers.
type workers struct {
	instances []ft.Instance
	commands  []*exec.Cmd
	keep      *os.File // while it is open, they run
	tree      *cgroup.Tree
	groups    []cgroup.Group
}

// start starts n workers, each in a control group of its own where the machine allows that, and waits until all are ready.
func start(ctx context.Context, n int) (w *workers, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start workers: %w", err)
	}
	stdin, keep, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start workers: %w", err)
	}
	defer func() { _ = stdin.Close() }() // theirs
	said, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start workers: %w", err), keep.Close())
	}
	defer func() { _ = said.Close() }() // all was read
	w = &workers{keep: keep, tree: cgroup.Find("bench-" + strconv.Itoa(os.Getpid()))}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	for i := range n {
		err := ctx.Err()
		if err == nil {
			err = w.add(self, uint32(i+1), stdin, stdout)
		}
		if err != nil {
			_ = stdout.Close()
			return w, fmt.Errorf("start worker %d: %w", i+1, err)
		}
	}
	_ = stdout.Close()                              // theirs
	_ = said.SetReadDeadline(time.Now().Add(begun)) // it is a pipe
	if err := w.meet(said); err != nil {
		return w, fmt.Errorf("wait for %d workers: %w", n, err)
	}
	return w, nil
}

// add starts one worker.
func (w *workers) add(self string, serial uint32, stdin, stdout *os.File) error {
	in := instance(serial, 0)
	g := w.tree.Plan(string(in.ID))
	w.groups = append(w.groups, g)
	if err := g.Make(); err != nil {
		return err
	}
	group, err := json.Marshal(g)
	if err != nil {
		return err
	}
	cmd := exec.Command(self, workerArg, string(group))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	in.Scope = ft.Scope{PID: cmd.Process.Pid, CgroupV2: g.V2, CgroupV1: g.V1}
	w.commands, w.instances = append(w.commands, cmd), append(w.instances, in)
	return nil
}

// meet waits for the line of each worker, "PID ADDRESS".
func (w *workers) meet(said io.Reader) error {
	at := map[int]string{}
	s := bufio.NewScanner(said)
	for len(at) < len(w.instances) && s.Scan() {
		pid, address := 0, ""
		if _, err := fmt.Sscan(s.Text(), &pid, &address); err != nil {
			return fmt.Errorf("a worker said %q: %w", s.Text(), err)
		}
		at[pid] = address
	}
	for i := range w.instances {
		in := &w.instances[i]
		in.Endpoint = ft.Endpoint{Network: "tcp", Address: at[in.Scope.PID]}
	}
	if len(at) < len(w.instances) {
		return errors.Join(fmt.Errorf("%d are ready", len(at)), s.Err())
	}
	return nil
}

// grouped says in which control groups they are.
func (w *workers) grouped() string {
	var in []string
	if v1 := w.tree.V1Controllers(); len(v1) > 0 {
		in = append(in, "version 1 ("+strings.Join(v1, " ")+")")
	}
	if w.tree.V2() != "" {
		controllers := cmp.Or(strings.Join(w.tree.V2Controllers(), " "), "no controllers")
		in = append(in, "version 2 ("+controllers+")")
	}
	if len(in) == 0 {
		return "without a control group of its own: " + strings.Join(w.tree.Why(), "; ")
	}
	return "in a control group of its own of " + strings.Join(in, " and of ")
}

// stop ends the workers, waits for them, and removes their control groups.
func (w *workers) stop() error {
	errs := []error{w.keep.Close()}
	for _, cmd := range w.commands {
		_ = cmd.Wait() // however it ended
	}
	for _, g := range w.groups {
		errs = append(errs, remove(g))
	}
	return errors.Join(append(errs, w.tree.Close())...)
}

// remove removes a control group that has no weight. Its own Remove gives the parent the sum of the weights of all others,
// which takes minutes for a thousand.
func remove(g cgroup.Group) error {
	var errs []error
	for _, dir := range slices.Compact(slices.Sorted(maps.Values(g.V1))) {
		errs = append(errs, vacated(dir))
	}
	if g.V2 != "" {
		errs = append(errs, vacated(g.V2))
	}
	return errors.Join(errs...)
}

// vacated removes a directory of control groups whose last process has ended; it may be busy for a moment.
func vacated(dir string) (err error) {
	for range 100 {
		if err = os.Remove(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// instance is what a driver would say of a process.
func instance(serial uint32, pid int) ft.Instance {
	return ft.Instance{Ref: ft.Ref{ID: ft.NewInstanceID("bench", serial), Generation: 1}, Scope: ft.Scope{PID: pid}}
}
