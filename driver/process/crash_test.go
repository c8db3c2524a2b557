package process_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/driver/process"
)

// owner is a process that owns a driver, as a daemon does: owner STATE IMAGE loop | owner STATE IMAGE one SHAPE.
func owner(args []string) int {
	if len(args) < 3 {
		return 2
	}
	d, err := process.New(process.Options{StateDir: args[0]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := &world{t: failNow{}, state: args[0], image: args[1], d: d}
	if args[2] == "one" {
		p := w.pool(args[3], args[4:]...)
		in, err := d.Start(context.Background(), &p, ref(1, 1), ft.Work{})
		fmt.Println(in.Scope.PID, err)
		if err != nil {
			return 1
		}
		return 0
	}
	p := w.pool("serve")
	var wg sync.WaitGroup
	for serial := range uint32(2) {
		wg.Go(func() { churn(w, &p, serial+1) })
	}
	wg.Wait()
	return 0
}

// failNow is what the owner has in place of a test.
type failNow struct{ testing.TB }

func (failNow) Helper()           {}
func (failNow) Fatal(args ...any) { fmt.Fprintln(os.Stderr, args...); os.Exit(1) }

// churn starts, resets and stops one instance for ever, and says so with a byte before each.
func churn(w *world, p *ft.Pool, serial uint32) {
	for {
		fmt.Print("a")
		in, err := w.d.Start(context.Background(), p, ref(serial, 1), ft.Work{})
		for range 2 {
			if err == nil {
				fmt.Print("r")
				in, err = w.d.FullReset(context.Background(), p, in.Ref)
			}
		}
		if err == nil {
			fmt.Print("s")
			err = w.d.Stop(context.Background(), in.Ref, 50*time.Millisecond)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func (w *world) owner(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	return exec.Command(exe, append([]string{"owner", w.state, w.image}, args...)...)
}

// TestKilledOwner kills a process that owns a driver at random moments. After each, a new driver must find exactly what
// runs: every process of an instance by its record, and none twice.
func TestKilledOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	rounds, p := killRounds, w.pool("serve")
	if testing.Short() {
		rounds = 6
	}
	seen := map[string]int{}
	for round := range rounds {
		c := w.owner("loop")
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		said := &bytes.Buffer{}
		c.Stderr = said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// Some verbs into its work, and a random moment of the one under way.
		if _, err := io.ReadFull(out, make([]byte, 1+rand.IntN(8))); err != nil {
			t.Fatalf("the owner did not go on: %v\n%s", err, said)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(150 * time.Millisecond))))
		if err := c.Process.Kill(); err != nil {
			t.Fatalf("the owner ended by itself: %v\n%s", err, said)
		}
		_ = c.Wait()
		w.open()
		seen[w.checkRecovered(round, &p)]++
	}
	t.Logf("what was found: %v", seen)
}

// checkRecovered compares what the driver lists with what runs, makes it all serve, and takes it away. A late shim may
// still be on its way to find itself unwanted, and a process on its way out: so it polls for agreement.
func (w *world) checkRecovered(round int, p *ft.Pool) string {
	w.t.Helper()
	var listed []ft.Instance
	var wrong []string
	for range 400 {
		if listed, wrong = w.compare(); len(wrong) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, s := range wrong {
		w.t.Errorf("round %d: %s", round, s)
	}
	var kinds []string
	for _, in := range listed {
		again, err := w.d.Start(context.Background(), p, in.Ref, ft.Work{})
		if err != nil {
			w.t.Errorf("round %d: start again: %v", round, err)
			continue
		}
		if in.Exit == nil && again.Scope.PID != in.Scope.PID && alive(in) {
			w.t.Errorf("round %d: starting %s again made another process beside it", round, in.Ref)
		}
		if got := get(w.t, again, "/file?name=file.txt"); got != "initial" {
			w.t.Errorf("round %d: %s has data %q", round, in.Ref, got)
		}
		kind := fmt.Sprintf("running/%d", in.Generation)
		if in.Exit != nil {
			kind = "ended"
		}
		kinds = append(kinds, kind)
	}
	w.end()
	return strings.Join(kinds, " ")
}

// compare tells what of the driver's list and of the processes does not fit.
func (w *world) compare() (listed []ft.Instance, wrong []string) {
	listed, err := w.d.List(context.Background(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	running := map[string]string{}
	for _, p := range w.processes() {
		pid, cmd, _ := strings.Cut(p, " ")
		running[pid] = cmd
	}
	for _, in := range listed {
		pid := fmt.Sprint(in.Scope.PID)
		switch _, runs := running[pid]; {
		case in.Exit == nil && !runs:
			wrong = append(wrong, fmt.Sprintf("%s is listed as running, process %s is not there", in.Ref, pid))
		case in.Exit != nil && runs:
			wrong = append(wrong, fmt.Sprintf("%s is listed as ended, process %s runs", in.Ref, pid))
		}
		delete(running, pid)
	}
	for pid, cmd := range running {
		wrong = append(wrong, fmt.Sprintf("process %s is an orphan: %s", pid, cmd))
	}
	return listed, wrong
}

// TestLateShim runs shims whose launch is not wanted any more: none may become the command.
func TestLateShim(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	dir := filepath.Dir(w.data(in))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"another launch": {dir, "not the token of its record"},
		"nothing there":  {dir + "0", "token"},
	} {
		r, pipe, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(exe, append([]string{process.ShimCommand}, args...)...)
		c.ExtraFiles = []*os.File{pipe}
		err = c.Run()
		pipe.Close()
		why := make([]byte, 200)
		n, _ := r.Read(why)
		r.Close()
		if c.ProcessState.ExitCode() != 126 || n == 0 {
			t.Errorf("%s: the shim ended with %v and said %q, want 126 and a reason", name, err, why[:n])
		}
	}
	if got := w.processes(); len(got) != 1 {
		t.Errorf("processes: %v, want the instance only", got)
	}
	if get(t, in, "/") != "ok\n" {
		t.Error("the instance was disturbed")
	}
}

// TestShimWaitsForTheLock holds the lock as a recovery does, and clears the record under it: the shim that waits must
// find its launch unwanted.
func TestShimWaitsForTheLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	record, err := os.ReadFile(filepath.Join(filepath.Dir(w.data(in)), "instance.json"))
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`"token": "(\w+)"`).FindSubmatch(record)[1]
	dir := filepath.Join(t.TempDir(), "web-1")
	w.write(filepath.Join(dir, "instance.json"), string(record))
	w.write(filepath.Join(dir, "lock"), "")
	held, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, process.ShimCommand, dir, string(token))
	c.ExtraFiles = []*os.File{pipe}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	eventually(t, "the shim has opened the lock", func() bool {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Process.Pid))
		return slices.ContainsFunc(fds, func(fd string) bool {
			to, _ := os.Readlink(fd)
			return to == filepath.Join(dir, "lock")
		})
	})
	if err := os.Remove(filepath.Join(dir, "instance.json")); err != nil {
		t.Fatal(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	why, _ := io.ReadAll(r)
	if err := c.Wait(); c.ProcessState.ExitCode() != 126 || !strings.Contains(string(why), "instance.json") {
		t.Errorf("the shim ended with %v and said %q, want 126 and that the record is gone", err, why)
	}
	if _, err := os.Stat(filepath.Join(dir, "process.json")); err == nil {
		t.Error("the shim noted an identity")
	}
}

// TestAdoptedExit checks exits of instances that another process started: while a driver watches, and while none ran.
func TestAdoptedExit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	adopt := func() ft.Instance {
		if err := w.d.Close(); err != nil {
			t.Fatal(err)
		}
		if out, err := w.owner("one", "serve").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.open()
		ins, err := w.d.List(t.Context(), "web")
		if err != nil || len(ins) != 1 {
			t.Fatalf("%v, %v", ins, err)
		}
		return ins[0]
	}
	in := adopt()
	exits := make(chan ft.Exit, 10)
	go func() { _ = w.d.Watch(t.Context(), func(_ ft.Ref, e ft.Exit) { exits <- e }) }()
	leave(in, 7)
	e := <-exits
	if known := fact(t, w.d, "exit status of adopted instances"); e.Known != known || known && e.Code != 7 {
		t.Errorf("exit of an adopted instance: %+v, want status 7 if this kernel tells (%t)", e, known)
	}
	if !strings.Contains(e.LastOutput, "leaving as asked") {
		t.Errorf("last output %q", e.LastOutput)
	}
	// The end is remembered by the next driver.
	w.reopen()
	ins, err := w.d.List(t.Context(), "web")
	if err != nil || len(ins) != 1 || ins[0].Exit == nil || ins[0].Exit.Code != e.Code || ins[0].Exit.Known != e.Known {
		t.Errorf("after reopening: %+v, %v; want the exit %+v", ins, err, e)
	}
	if err := w.d.Stop(t.Context(), in.Ref, time.Second); err != nil {
		t.Fatal(err)
	}
	in = adopt()
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	leave(in, 7)
	eventually(t, "it ends", func() bool { return !alive(in) })
	w.open()
	ins, err = w.d.List(t.Context(), "web")
	if err != nil || len(ins) != 1 || ins[0].Exit == nil || ins[0].Exit.Known && ins[0].Exit.Code != 7 {
		t.Errorf("an instance that ended unseen: %+v, %v; want an exit, of status 7 or unknown", ins, err)
	}
}

func fact(t *testing.T, d *process.Driver, name string) bool {
	for _, f := range d.Facts() {
		if f.Name == name {
			return f.Available
		}
	}
	t.Fatalf("no fact %q", name)
	return false
}
