package daemon

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router"
	"github.com/fettle-dev/fettle/telemetry"
)

// able refuses a pool that wants what this machine does not allow.
func (d *daemon) able(spec *fettle.Pool) error {
	if spec.Telemetry.WorkingSet.Collect == fettle.On {
		if err := telemetry.WorkingSetError(); err != nil {
			return fmt.Errorf("pool %s: telemetry.workingSet.collect is on: %w", spec.Name, err)
		}
	}
	for name, s := range map[string]fettle.Switch{"network": spec.Telemetry.Network, "syscalls.collect": spec.Telemetry.Syscalls.Collect} {
		if s != fettle.On {
			continue
		}
		if _, err := d.probes.open(d.log); err != nil {
			return fmt.Errorf("pool %s: telemetry.%s is on: %w", spec.Name, name, err)
		}
	}
	return nil
}

// sources are what measures the pool's instances, in the order in which they are asked: where two measure the same, an
// instance's value comes from the first that can. What is off, or not possible here, takes no column and is told.
func (p *pool) sources(spec *fettle.Pool, driver fettle.Source) []fettle.Source {
	out := []fettle.Source{p.network(spec), telemetry.Cgroup(), telemetry.ProcFS(), workingSet(spec)}
	if spec.Serve == fettle.HTTP {
		f := p.d.front.Pool(spec.Name)
		p.front = f
		out = append(out, f)
	} else {
		why := "serve: none: no requests go through the router"
		if spec.Watch != nil {
			why = "only watched: requests do not go through Fettle"
		}
		out = append(out, telemetry.Absent(why, names(&router.PoolFront{})...))
	}
	if spec.Metrics != nil {
		out = append(out, telemetry.Scrape(spec.Metrics))
	}
	out = append(out, p.syscalls(spec))
	if driver != nil {
		out = append(out, driver)
	}
	return out
}

// network measures traffic. Where neither the router nor a metric tells what the pool is asked to do, traffic does.
func (p *pool) network(spec *fettle.Pool) fettle.Source {
	work := spec.Serve != fettle.HTTP && !tellsLoad(spec.Metrics)
	if spec.Telemetry.Network == fettle.Off {
		return telemetry.Absent("off: telemetry.network", telemetry.NetworkNames()...)
	}
	probes, _ := p.d.probes.open(p.d.log) // without them it falls back, and says why
	return probes.Network(work)
}

func (p *pool) syscalls(spec *fettle.Pool) fettle.Source {
	c := spec.Telemetry.Syscalls
	var probes *telemetry.Probes
	if c.Collect == fettle.On {
		probes, _ = p.d.probes.open(p.d.log) // it was able to
	}
	return probes.Syscalls(c)
}

func tellsLoad(m *fettle.Metrics) bool {
	return m != nil && slices.ContainsFunc(m.Series, func(s fettle.Series) bool { return s.Role != nil && *s.Role == fettle.Load })
}

// workingSet clears bits in the servers' page tables, so it is not automatic for what is only watched (ADR 8).
func workingSet(spec *fettle.Pool) fettle.Source {
	c := spec.Telemetry.WorkingSet
	s := telemetry.WorkingSet(c)
	if spec.Watch != nil && c.Collect == fettle.Auto {
		return telemetry.Absent("only watched: measured with telemetry.workingSet.collect: on", names(s)...)
	}
	if err := telemetry.WorkingSetError(); err != nil && c.Collect != fettle.Off {
		return telemetry.Absent(err.Error(), names(s)...)
	}
	return s
}

// names are those of a source's dimensions.
func names(s fettle.Source) []string {
	var out []string
	for _, d := range s.Dimensions() {
		out = append(out, d.Name)
	}
	return out
}

// remeasured tells whether two states of a pool are measured differently.
func remeasured(was, is *fettle.Pool) bool {
	return !reflect.DeepEqual(was.Telemetry, is.Telemetry) || !reflect.DeepEqual(was.Metrics, is.Metrics)
}
