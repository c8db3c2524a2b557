package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry"
)

// blind is a daemon on a machine without eBPF.
func blind() *daemon {
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	d.probes.done, d.probes.err = true, fmt.Errorf("needs CAP_BPF and CAP_PERFMON, or root: %w", fettle.ErrUnavailable)
	return d
}

// What the pool file insists on and the machine does not allow is refused with the reason; what is automatic goes on
// without, and says so.
func TestWhatIsOnMustBePossible(t *testing.T) {
	for path, edit := range map[string]func(*fettle.Pool){
		"telemetry.network is on":          func(p *fettle.Pool) { p.Telemetry.Network = fettle.On },
		"telemetry.syscalls.collect is on": func(p *fettle.Pool) { p.Telemetry.Syscalls.Collect = fettle.On },
	} {
		p := fettle.Pool{Name: "web"}
		p.Defaults()
		if err := blind().able(&p); err != nil {
			t.Errorf("by default: %v", err)
		}
		edit(&p)
		err := blind().able(&p)
		if !errors.Is(err, fettle.ErrUnavailable) || !strings.Contains(err.Error(), "pool web: "+path+": needs CAP_BPF") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Without router and metric that tell it, what comes over the network is the work.
func TestWhatTellsTheWork(t *testing.T) {
	load := fettle.Load
	for _, c := range []struct {
		edit func(*fettle.Pool)
		want fettle.Role
	}{
		{func(*fettle.Pool) {}, fettle.Load},
		{func(p *fettle.Pool) { p.Metrics = &fettle.Metrics{Series: []fettle.Series{{Metric: "depth"}}} }, fettle.Load},
		{func(p *fettle.Pool) {
			p.Metrics = &fettle.Metrics{Series: []fettle.Series{{Metric: "jobs_total", Role: &load}}}
		}, fettle.Response},
		{func(p *fettle.Pool) { p.Serve = fettle.HTTP }, fettle.Response},
	} {
		spec := fettle.Pool{Name: "jobs", Serve: fettle.None}
		c.edit(&spec)
		probes, err := telemetry.OpenProbes(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Skip(err)
		}
		p := &pool{d: &daemon{log: slog.New(slog.DiscardHandler)}}
		p.d.probes.done, p.d.probes.p = true, probes
		for _, d := range p.network(&spec).Dimensions() {
			if d.Name == fettle.DimMsgsIn && d.Role != c.want {
				t.Errorf("%+v: received messages are %s, want %s", spec.Metrics, d.Role, c.want)
			}
		}
		if err := probes.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsOffTakesNoColumn(t *testing.T) {
	spec := fettle.Pool{Name: "jobs", Serve: fettle.None}
	spec.Defaults()
	spec.Telemetry.WorkingSet.Collect, spec.Telemetry.Network = fettle.Off, fettle.Off
	p := &pool{d: blind(), name: spec.Name}
	s, err := telemetry.New(p.d.log, p.sources(&spec, nil)...)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{fettle.DimWSS, fettle.DimNetOut, fettle.DimRequests} {
		if s.Schema().Index(name) >= 0 {
			t.Errorf("%s has a column", name)
		}
	}
	if s.Schema().Index(fettle.DimCPU) < 0 || s.Schema().Categories() != 0 {
		t.Error("other columns than those of processes and groups")
	}
}
