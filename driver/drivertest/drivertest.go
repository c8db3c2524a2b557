// Package drivertest is the conformance suite that all drivers pass.
package drivertest

import (
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// Harness is one driver under test, with the hands that the suite needs in its world. Where a driver has no such
// notion the function is nil and what needs it is skipped with that reason.
type Harness struct {
	// Driver under test, fresh, without instances.
	Driver ft.Driver
	// Pool is valid and its instances start. It declares a soft reset where the driver can do one.
	Pool ft.Pool
	// Broken is a pool whose instances never come up.
	Broken ft.Pool
	// Kill ends the instance from outside, as a crash does.
	Kill func(t testing.TB, in ft.Instance)
	// Running tells whether the instance really runs, by other means than the driver.
	Running func(t testing.TB, in ft.Instance) bool
	// SetState and State are what the application holds in memory.
	SetState func(t testing.TB, in ft.Instance, v string)
	State    func(t testing.TB, in ft.Instance) string
	// SetData and Data are a file of the instance's private data, which the image has with the content "initial".
	SetData func(t testing.TB, in ft.Instance, v string)
	Data    func(t testing.TB, in ft.Instance) string
	// Reopen closes the driver and opens it again over the same world, as a new daemon does.
	Reopen func(t testing.TB) ft.Driver
}

// Run runs the suite; open makes a fresh harness for each test and cleans it up with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	_ = open
}
