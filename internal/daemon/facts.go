package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/telemetry"
)

// Facts are what this machine gives, found out by trying: to the driver's instances, and to what measures them. Without
// a driver, nothing is tried that would change the machine. probes are those that were loaded; nil loads them for the
// moment.
func Facts(ctx context.Context, d *process.Driver, probes *telemetry.Probes) []api.Fact {
	if probes == nil {
		probes, _ = telemetry.OpenProbes(slog.New(slog.DiscardHandler)) // they say themselves why they are not there
		defer func() { _ = probes.Close() }()                           // nothing uses them
	}
	if d == nil {
		return append([]api.Fact{{
			Name: "running instances", Detail: "this daemon only watches, and tries nothing that would change the machine",
			Without: "fettle doctor tells more while it does not run",
		}}, measured(nil, probes)...)
	}
	out := []api.Fact{}
	for _, f := range d.Facts() {
		out = append(out, api.Fact(f))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var found []api.Fact
	if err := d.TryGroup(ctx, func(group fettle.Scope) { found = measured(&group, probes) }); found == nil {
		out = append(out, api.Fact{Name: "control group of an instance", Detail: err.Error(), Without: "instances run in the daemon's own"})
		found = measured(nil, probes)
	}
	return append(out, found...)
}

func measured(group *fettle.Scope, probes *telemetry.Probes) []api.Fact {
	out := []api.Fact{}
	for _, f := range telemetry.Facts(group, probes) {
		out = append(out, api.Fact(f))
	}
	return out
}
