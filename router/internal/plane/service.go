package plane

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Server is an HTTP/1.1 server for the pool, with the bounds that keep slow and greedy clients from holding it.
func (p *Pool) Server() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      p,
		ReadHeaderTimeout:            10 * time.Second,
		IdleTimeout:                  75 * time.Second,
		MaxHeaderBytes:               64 << 10,
		DisableGeneralOptionsHandler: true,
		Protocols:                    &protocols,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// Ready returns when requests can reach the member.
func (p *Pool) Ready(ctx context.Context, ref ft.Ref) error {
	return p.until(ctx, ref, func(m *member) bool {
		return m.draining || m.health.state == Up || m.health.state == Ejected
	}, "is not ready")
}

// Drain returns when the member has nothing in flight and its kept connections are closed. The table says that it is
// draining; where it does not, this waits for a lull only.
func (p *Pool) Drain(ctx context.Context, ref ft.Ref) error {
	p.mu.Lock()
	m := p.find(ref)
	p.mu.Unlock()
	if m == nil {
		return nil
	}
	err := p.until(ctx, ref, func(m *member) bool { return m.inFlight == 0 }, "has requests in flight")
	if err == nil {
		m.up.drop()
	}
	return err
}

// until waits for a condition of a member; one that is gone fulfils all.
func (p *Pool) until(ctx context.Context, ref ft.Ref, ok func(*member) bool, not string) error {
	for {
		p.mu.Lock()
		m := p.find(ref)
		if m == nil || ok(m) {
			p.mu.Unlock()
			return nil
		}
		changed, n, state := m.changed, m.inFlight, m.health.state
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s %s (%d in flight, %s): %w", ref, not, n, state, ft.ErrDeadline)
		}
	}
}
