// Package drivertest is the conformance suite that all drivers pass: what the engine relies on, whatever an instance is.
//
// A driver's own test calls [Run] with a function that opens a [Harness]. A driver whose time is virtual runs each of
// [Cases] in a bubble of its own instead.
package drivertest

import (
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Initial is the content of the file that [Harness.Data] reads, as the image has it.
const Initial = "initial"

// Harness is one driver under test, with the hands that the suite needs in its world. Optional parts are nil where a
// driver has no such notion; what needs them is skipped, and says so.
type Harness struct {
	// Driver under test, fresh, without instances.
	Driver ft.Driver
	// Pool is valid, its defaults are filled, and its instances start. It declares a soft reset where the driver can do
	// one.
	Pool ft.Pool
	// Broken is a pool of the same name whose instances never come up.
	Broken ft.Pool
	// Slow is a pool of the same name whose instances do not come up within the test. Optional.
	Slow *ft.Pool
	// Kill ends the instance from outside, as a crash does.
	Kill func(t testing.TB, in ft.Instance)
	// Running tells whether the instance really runs, by other means than the driver.
	Running func(t testing.TB, in ft.Instance) bool
	// SetState and State are what the application holds in memory. Optional.
	SetState func(t testing.TB, in ft.Instance, v string)
	State    func(t testing.TB, in ft.Instance) string
	// SetData and Data are a file of the instance's private data, which the image has with the content [Initial].
	// Optional.
	SetData func(t testing.TB, in ft.Instance, v string)
	Data    func(t testing.TB, in ft.Instance) string
	// Reopen closes the driver and opens another one over the same world, as a new daemon does. Optional.
	Reopen func(t testing.TB) ft.Driver
}

// Case is one property of drivers.
type Case struct {
	Name string
	Run  func(t *testing.T, h *Harness)
}

// Run checks all properties, each with a fresh harness, which open cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) *Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, open(t)) })
	}
}

// Cases are all properties.
func Cases() []Case {
	return []Case{
		{"start", start},
		{"start twice is once", startTwice},
		{"start that fails leaves nothing", startFails},
		{"start that is given up leaves nothing", startGivenUp},
		{"start needs its own life to be free", startOther},
		{"stop", stop},
		{"list", list},
		{"exits are told once", exits},
		{"ends that verbs cause are not told", ownEnds},
		{"full reset", fullReset},
		{"full reset that fails leaves nothing", fullResetFails},
		{"old lives are refused", stale},
		{"soft reset", softReset},
		{"knobs", knobs},
		{"many at once", many},
		{"instances outlive the driver", reopened},
	}
}

func (h *Harness) ref(serial, generation uint32) ft.Ref {
	return ft.Ref{ID: ft.NewInstanceID(h.Pool.Name, serial), Generation: generation}
}

func (h *Harness) start(t *testing.T, serial uint32) ft.Instance {
	t.Helper()
	in, err := h.Driver.Start(t.Context(), &h.Pool, h.ref(serial, 1), h.Pool.InitialWork())
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return in
}

func (h *Harness) list(t *testing.T) []ft.Instance {
	t.Helper()
	ins, err := h.Driver.List(t.Context(), h.Pool.Name)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return ins
}

// wantList checks which lives exist, in order.
func (h *Harness) wantList(t *testing.T, want ...ft.Ref) []ft.Instance {
	t.Helper()
	ins := h.list(t)
	if len(ins) != len(want) {
		t.Fatalf("%d instances are listed, want %d: %v", len(ins), len(want), ins)
	}
	for i := range want {
		if ins[i].Ref != want[i] {
			t.Fatalf("instance %d of the list is %s, want %s", i, ins[i].Ref, want[i])
		}
	}
	return ins
}

func (h *Harness) wantRunning(t *testing.T, in ft.Instance, want bool) {
	t.Helper()
	if got := h.Running(t, in); got != want {
		t.Fatalf("%s running: %t, want %t", in.Ref, got, want)
	}
}

// eventually polls, since the world may need a moment.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 2000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 10s: %s", what)
}

func need(t *testing.T, have bool, what string) {
	t.Helper()
	if !have {
		t.Skip("this driver has no " + what)
	}
}
