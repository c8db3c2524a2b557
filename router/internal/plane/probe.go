package plane

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/hook"
)

// again is how soon a member that is not up is probed again, if its probe's own cadence is not shorter: what comes
// back is wanted at once.
const again = 100 * time.Millisecond

// probe runs a member's readiness probe until the member or the pool is closed.
func (p *Pool) probe(m *member) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		select {
		case <-m.quit:
		case <-p.closing:
		case <-ctx.Done():
		}
		stop()
	}()
	var ready tally
	for ctx.Err() == nil {
		t := time.NewTimer(max(p.look(ctx, m, p.config.Load(), &ready), time.Millisecond))
		select {
		case <-ctx.Done():
		case <-m.kick:
		case <-t.C:
		}
		t.Stop()
	}
}

// tally counts failures in a row.
type tally struct {
	failed int
	first  time.Time
}

func (t *tally) add(err error) (failed int, lasted time.Duration) {
	if err == nil {
		*t = tally{}
		return 0, 0
	}
	if t.failed == 0 {
		t.first = time.Now()
	}
	t.failed++
	return t.failed, time.Since(t.first)
}

// look probes readiness once and says when to look again.
func (p *Pool) look(ctx context.Context, m *member, c *config, t *tally) time.Duration {
	probe := c.readiness
	if probe == nil {
		probe = &ft.Probe{TCP: true, Every: ft.Duration(time.Second), Timeout: ft.Duration(2 * time.Second), Failures: 3}
	}
	p.mu.Lock()
	state, until := m.health.state, m.health.until
	p.mu.Unlock()
	if d := time.Until(until); state == Ejected && d > 0 {
		return d
	}
	err := p.check(ctx, m, c, probe)
	if ctx.Err() != nil {
		return 0
	}
	failed, lasted := t.add(err)
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &m.health
	switch {
	case err == nil:
		// A hung server's kernel still takes connections, and its health page may work: only answers end a silence.
		// Where the state changed meanwhile, what was probed is old.
		if h.state == state && state != Silent {
			p.turn(m, Up, now)
		}
	case failed >= probe.Failures && lasted >= probe.Every.D()*time.Duration(probe.Failures-1):
		p.turn(m, Unready, now)
		p.unresponsive(m, byReadiness, lasted, err.Error(), now)
	case h.state == Up && refusal(err):
		p.turn(m, Refusing, now)
	}
	if h.state == Up {
		return probe.Every.D()
	}
	return min(probe.Every.D(), again)
}

func (p *Pool) check(ctx context.Context, m *member, c *config, probe *ft.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, probe.Timeout.D())
	defer cancel()
	var env []string
	if len(probe.Command) > 0 {
		env = append(slices.Clone(c.env), "FETTLE_INSTANCE="+string(m.ref.ID))
		if ep := m.up.endpoint; ep.Network == "unix" {
			env = append(env, "FETTLE_SOCKET="+ep.Address)
		} else if _, port, err := net.SplitHostPort(ep.Address); err == nil {
			env = append(env, "PORT="+port)
		}
	}
	return hook.Probe(ctx, probe, ft.Instance{Ref: m.ref, Endpoint: m.up.endpoint}, env, c.dir)
}

// refusal tells whether a connection was refused: nobody listens, so that nothing was sent.
func refusal(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
