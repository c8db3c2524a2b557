//go:build e2e

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/router"
)

// TestMain lets the test binary be the fettle that the demo re-executes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "internal-demo-app":
			os.Exit(App(os.Args[2:]))
		case "internal-exec":
			os.Exit(process.Shim(os.Args[2:]))
		case "internal-router":
			os.Exit(router.Main(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// output is where a demo writes while the test reads.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// leftovers are the processes that were started with a path below dir.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, l := range lines {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), dir) {
			left = append(left, l+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return left
}

// inShortTemp makes the demo's temporary directory one of the test's own.
func inShortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return dir
}

func assertClean(t *testing.T, dir string) {
	t.Helper()
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 0 {
		t.Errorf("files are left: %v %v", files, err)
	}
}

// TestHungInstanceIsReplaced is a whole demo with one fault, in a hurry. What it detects in so short intervals is tested
// elsewhere; here a hung instance, which needs no learning, must be replaced and nothing lost, and all taken down.
func TestHungInstanceIsReplaced(t *testing.T) {
	dir := inShortTemp(t)
	var out, errs output
	r, err := Run(t.Context(), Options{Seed: 3, Faults: "hang", Speed: 8, JSON: true, Out: &out, Err: &errs, rate: 60})
	if err != nil {
		t.Fatal(err)
	}
	var printed Result
	if err := json.Unmarshal([]byte(out.String()), &printed); err != nil {
		t.Fatalf("-o json printed no JSON: %v\n%s", err, out.String())
	}
	if r.LostPlanned != 0 {
		t.Errorf("%d requests lost to planned actions\n%s", r.LostPlanned, errs.String())
	}
	if len(printed.Faults) != 1 || printed.Requests != r.Requests || r.Requests < 500 {
		t.Fatalf("%+v", printed)
	}
	// Whether all are steady again in time is no matter of this test: at this speed a busy machine alone is drift.
	if f := r.Faults[0]; f.DetectedAfter == nil || len(f.Actions) == 0 || slices.Contains(f.Amiss, "it was neither fully reset nor evicted") {
		t.Errorf("%+v\n%s", f, errs.String())
	}
	assertClean(t, dir)
}

// TestInterrupted: nothing is left when the user has seen enough.
func TestInterrupted(t *testing.T) {
	dir := inShortTemp(t)
	var out output
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Options{Out: &out, rate: 60})
		done <- err
	}()
	for range 600 {
		if strings.Contains(out.String(), "what is normal") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !strings.Contains(out.String(), "4 instances in service") {
		t.Errorf("it did not come up:\n%s", out.String())
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	assertClean(t, dir)
}

func TestWrongOptions(t *testing.T) {
	dir := inShortTemp(t)
	for name, o := range map[string]Options{
		"fault": {Faults: "leek"}, "slow": {Speed: 0.01}, "fast": {Speed: 100}, "backwards": {Speed: -1},
	} {
		if _, err := Run(t.Context(), o); !errors.Is(err, fettle.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	assertClean(t, dir)
}

// TestFailureLeavesNothing: the binary cannot be executed, so nothing comes up.
func TestFailureLeavesNothing(t *testing.T) {
	dir := inShortTemp(t)
	var out output
	if _, err := Run(t.Context(), Options{Out: &out, Exe: "/nonexistent/fettle"}); err == nil {
		t.Error("a demo without a binary succeeds")
	}
	assertClean(t, dir)
}
