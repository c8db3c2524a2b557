package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// longRecording imports so many rows of two members that a replay takes a while.
func longRecording(t *testing.T, rows int) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "long.rec")
	args := []string{"record", "import", "-o", file, "--every", "1s"}
	for m := range 2 {
		var b strings.Builder
		for i := range rows {
			fmt.Fprintf(&b, "%d,%d,%d\n", 100+(i*7+m)%13, 50+(i*3+m)%7, 1000+i%17)
		}
		name := filepath.Join(dir, fmt.Sprintf("web-%d.csv", m+1))
		if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if code, _, msg := tell(t, args...); code != 0 {
		t.Fatalf("import: %s", msg)
	}
	return file
}

// terminalPair is a pseudo terminal: what a person has, and what a program has.
func terminalPair(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	var n int
	if err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		n, err = unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// screen keeps what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps it.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// String is all until now.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(t *testing.T, part string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(s.String(), part); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q does not come up; there is %q", part, s.String())
		}
	}
}

// TestCtrlCEndsALongReplay types it on a terminal, while progress is shown, and wants the summary until there.
func TestCtrlCEndsALongReplay(t *testing.T) {
	file := longRecording(t, 10_000)
	person, program := terminalPair(t)
	var out, shown screen
	cmd := exec.Command("fettle", "replay", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, &out, program
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(&shown, person) }() // ends with the terminal
	shown.await(t, "%")
	if _, err := person.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v; %s", err, &shown)
	}
	if !strings.Contains(out.String(), "interrupted: this is what was replayed until") || !strings.Contains(out.String(), " frames, ") {
		t.Errorf("output: %s", &out)
	}
	shown.await(t, "^C")
	if s := shown.String(); !strings.Contains(s, "\r\x1b[K[") || strings.LastIndex(s, "%") > strings.LastIndex(s, "\r\x1b[K") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("shown: %q; output: %q", s, out.String())
	}
}

// TestCtrlCEndsAReplayThatWaits: of a pipe that stays open there is nothing to be read, and nothing is shown but the summary.
func TestCtrlCEndsAReplayThatWaits(t *testing.T) {
	b, err := os.ReadFile(longRecording(t, 200))
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string][]byte{"after all of it but its end": b[:len(b)-8], "before its first line": b[:1]} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			var out, msg screen
			cmd := exec.Command("fettle", "replay", "-")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = r, &out, &msg
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r.Close()
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
			for n := 1; n > 0; time.Sleep(time.Millisecond) { // once it reads, it handles signals
				if n, err = unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				_ = cmd.Process.Kill()
				t.Fatal("it does not end")
			}
			if all := out.String() + msg.String(); !strings.Contains(all, "interrupted") || strings.Contains(all, "\x1b") {
				t.Errorf("it said %q", all)
			}
		})
	}
}
