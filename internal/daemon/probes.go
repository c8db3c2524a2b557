package daemon

import (
	"log/slog"
	"sync"

	"github.com/fettle-dev/fettle/telemetry"
)

// probes are the daemon's eBPF programs, loaded when the first pool wants them. Safe for concurrent use.
type probes struct {
	mu   sync.Mutex
	done bool              // guarded by mu: loading was tried
	p    *telemetry.Probes // guarded by mu: usable in any case
	err  error             // guarded by mu: why the machine does not allow them
}

func (x *probes) open(log *slog.Logger) (*telemetry.Probes, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.done {
		x.done = true
		if x.p, x.err = telemetry.OpenProbes(log); x.err != nil {
			log.Info("network and system calls of instances are not measured", "why", x.err)
		}
	}
	return x.p, x.err
}

// loaded are those that were opened already; nil where none were.
func (x *probes) loaded() *telemetry.Probes {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.p
}

func (x *probes) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.p.Close() // nil closes too
}
