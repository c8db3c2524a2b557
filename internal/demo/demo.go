// Package demo is `fettle demo`: the main job, shown live on a pool of real processes.
package demo

import (
	"context"
	"io"

	"github.com/fettle-dev/fettle/internal/demo/app"
)

// Options say what the demo does. The zero Options plant all faults at normal speed.
type Options struct {
	Seed   uint64    // decides victims, order, times and sizes
	Faults string    // "all" (or empty), "none", or names separated by commas
	Speed  float64   // divides intervals and spans; 0 is 1
	JSON   bool      // print only the result as JSON to Out; the story goes to Err if that is a terminal
	Keep   bool      // keep the state directory and say where it is
	Out    io.Writer // the story and the table, or the JSON
	Err    io.Writer // the story, with JSON
	Exe    string    // the fettle binary, for the application, the router and the shim
}

// Result is the outcome, in the form that -o json prints.
type Result struct {
	Requests            int           `json:"requests"`
	LostPlanned         int           `json:"lost_planned"`
	LostFault           int           `json:"lost_fault"`
	Faults              []FaultResult `json:"faults"`
	ActionsWithoutFault int           `json:"actions_without_fault"`
}

// FaultResult is how one planted fault went.
type FaultResult struct {
	Name          string   `json:"name"`
	PlantedAt     float64  `json:"planted_at_s"`
	Victim        string   `json:"victim"`
	DetectedAfter *float64 `json:"detected_after_s"`
	Verdict       string   `json:"verdict"`
	Cause         string   `json:"cause"`
	Actions       []string `json:"actions"`
	Cured         bool     `json:"cured"`
	Expected      string   `json:"expected"`
	AsExpected    bool     `json:"as_expected"`
}

// OK tells whether the demo kept its promise: no request lost to a planned action, no fault missed, no healthy
// instance disrupted. `fettle demo` exits with 1 otherwise.
func (r Result) OK() bool {
	for _, f := range r.Faults {
		if !f.AsExpected {
			return false
		}
	}
	return r.LostPlanned == 0 && r.ActionsWithoutFault == 0
}

// Run runs the demo. The error is of the demo itself; how well Fettle did is in the Result.
func Run(ctx context.Context, o Options) (Result, error) {
	<-ctx.Done()
	return Result{}, ctx.Err()
}

// App is the application that the demo runs, as the hidden subcommand `fettle internal-demo-app`. It returns the
// exit code.
func App(args []string) int { return app.Main(args) }
