// Package daemon wires the parts to the running thing: state directory, journal, router, driver, and for each pool
// telemetry, judge, planner and loop; and serves the API.
package daemon

import (
	"context"
	"errors"
	"log/slog"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/client"
)

// ErrKeep as the cause of the context's end leaves instances and router running for the next daemon.
var ErrKeep = errors.New("the daemon ends, instances run on")

// Options of [Run].
type Options struct {
	// StateDir holds journal, instances' data and sockets. It is made if it is missing and locked while Run runs.
	StateDir string
	// Socket of the API; StateDir/fettle.sock if empty.
	Socket string
	// Exe is the binary that is executed again for instances' shims and the router; this one if empty.
	Exe string
	// Version is told to clients and written to the journal.
	Version string
	// Pools is the desired state. Nil takes the pools that the state directory remembers.
	Pools []fettle.Pool
	// Metrics is a loopback address on which /metrics is served too; none if empty.
	Metrics string
	// Log takes what the daemon has to say; discarded if nil.
	Log *slog.Logger
	// Ready is called once the API answers and all pools are being brought up; may be nil.
	Ready func(c *client.Client)
	// Event is called with every event of every pool as it is folded, in order within a pool; it must not block. May be nil.
	Event func(pool fettle.PoolName, e fettle.Event)
	// Force, once closed, ends a shutdown at once: nothing is waited for any more. May be nil.
	Force <-chan struct{}
}

// Run runs a daemon until ctx ends or somebody asks for a shutdown. Unless the context's cause is [ErrKeep], or the
// shutdown says so, all instances are then drained and stopped and the router ends.
//
// A second daemon on a state directory is refused with an error that is [fettle.ErrConflict] and names the holder.
func Run(ctx context.Context, o Options) error {
	<-ctx.Done()
	return nil
}
