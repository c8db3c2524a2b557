package process_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// relatives are the processes that the family shape started.
func (w *world) relatives(in ft.Instance) []int {
	w.t.Helper()
	var pids []int
	for _, name := range []string{"worker", "strayed"} {
		b, err := os.ReadFile(filepath.Join(w.data(in), name+".pid"))
		if err != nil {
			w.t.Fatal(err)
		}
		pid, err := strconv.Atoi(string(b))
		if err != nil {
			w.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func runs(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// TestChildrenBelongToTheInstance ends an instance and its leader: no child stays, also none that left the session.
func TestChildrenBelongToTheInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("family")
	in := w.start(&p, 1)
	family := w.relatives(in)
	for _, pid := range family {
		if !runs(pid) {
			t.Fatalf("process %d of the family does not run", pid)
		}
	}
	if err := w.d.Stop(t.Context(), in.Ref, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, pid := range family {
		if runs(pid) {
			t.Errorf("process %d runs after the stop", pid)
		}
	}
	in = w.start(&p, 2)
	family = w.relatives(in)
	kill(t, in)
	eventually(t, "the exit is noted", func() bool {
		ins, err := w.d.List(context.Background(), "web")
		return err == nil && len(ins) == 1 && ins[0].Exit != nil
	})
	// Also by a driver that never saw the leader.
	w.reopen()
	in, err := w.d.FullReset(t.Context(), &p, in.Ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range family {
		if runs(pid) {
			t.Errorf("process %d of the old life runs in the new one", pid)
		}
	}
	if in.Generation != 2 || !alive(in) {
		t.Errorf("after the full reset: %+v", in)
	}
}

func TestStopOfTheDeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("deaf")
	in := w.start(&p, 1)
	if err := w.d.Stop(t.Context(), in.Ref, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if alive(in) {
		t.Error("it runs after the stop")
	}
}

// TestStopOfTheStopped asks one that a signal stopped: it must be able to end by itself.
func TestStopOfTheStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	if err := syscall.Kill(in.Scope.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// With a grace longer than the test's patience only SIGTERM can have ended it.
	if err := w.d.Stop(ctx, in.Ref, time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestStopGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("deaf")
	in := w.start(&p, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.d.Stop(ctx, in.Ref, time.Minute); err == nil {
		t.Error("a stop that was given up succeeded")
	}
	if !alive(in) || get(t, in, "/") != "ok\n" {
		t.Error("the instance does not serve after a stop that was given up")
	}
}

// TestOutputIsBounded has an instance write 50 MB: the file stays small, and what stays is whole and the newest.
func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("chatter", "50")
	in := w.start(&p, 1)
	path := w.d.OutputPath(in.ID)
	eventually(t, "the output is cut", func() bool {
		st, err := os.Stat(path)
		return err == nil && st.Size() <= 4<<20
	})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !fact(t, w.d, "collapse range in the state directory") {
		t.Skip("this file system cannot cut without loss")
	}
	lines, next := bufio.NewScanner(bytes.NewReader(b)), -1
	lines.Scan() // the first one may be cut
	last := ""
	for lines.Scan() {
		last = lines.Text()
		num, ok := strings.CutPrefix(last, "line ")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(num[:8])
		if err != nil || next >= 0 && n != next {
			t.Fatalf("line %q follows line %d", last, next-1)
		}
		next = n + 1
	}
	if next < 0 || !strings.HasPrefix(last, "serving on ") || !strings.Contains(string(b), "the last line\n") {
		t.Errorf("the output ends with %q", last)
	}
	leave(in, 1)
	eventually(t, "the exit is noted", func() bool {
		ins, err := w.d.List(context.Background(), "web")
		return err == nil && ins[0].Exit != nil
	})
	ins, err := w.d.List(t.Context(), "web")
	if err != nil || !strings.HasSuffix(ins[0].Exit.LastOutput, "leaving as asked") || len(ins[0].Exit.LastOutput) > 2<<10 {
		t.Errorf("last output %q, %v", ins[0].Exit.LastOutput, err)
	}
}

// TestOutputWithoutCollapse is the same on a file system that cannot cut the head off.
func TestOutputWithoutCollapse(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/dev/shm", "fettle-")
	if err != nil {
		t.Skip("no tmpfs on /dev/shm: ", err)
	}
	defer os.RemoveAll(dir)
	w := newWorld(t)
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	w.state = filepath.Join(dir, "state")
	w.open()
	if fact(t, w.d, "collapse range in the state directory") {
		t.Skip("this tmpfs can")
	}
	p := w.pool("chatter", "12")
	in := w.start(&p, 1)
	eventually(t, "the output is cut", func() bool {
		st, err := os.Stat(w.d.OutputPath(in.ID))
		return err == nil && st.Size() <= 4<<20
	})
	// Lines written while it was cut may be lost; those before and after are there.
	leave(in, 1)
	eventually(t, "it ends", func() bool { return !alive(in) })
	b, err := os.ReadFile(w.d.OutputPath(in.ID))
	if err != nil || !bytes.Contains(b, []byte("again and again\n")) || !bytes.HasSuffix(b, []byte("leaving as asked\n")) {
		t.Errorf("%v: of the output is left: %.200q", err, b)
	}
	w.end()
	w.open()
}

// TestOutputOverGenerations checks that a new life's errors do not quote the old one.
func TestOutputOverGenerations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	in, err := w.d.FullReset(t.Context(), &p, in.Ref)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(w.d.OutputPath(in.ID))
	if err != nil || strings.Count(string(b), "serving on") != 2 || !strings.Contains(string(b), "\n--- fettle: web-1/2 ---\n") {
		t.Errorf("%v: output over two generations: %q", err, b)
	}
	exits := make(chan ft.Exit, 1)
	go func() { _ = w.d.Watch(t.Context(), func(_ ft.Ref, e ft.Exit) { exits <- e }) }()
	leave(in, 1)
	if e := <-exits; strings.Count(e.LastOutput, "serving on") != 1 || strings.Contains(e.LastOutput, "---") {
		t.Errorf("last output of the second generation: %q", e.LastOutput)
	}
}
