package router

import (
	"context"
	"log/slog"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// FrontOptions of the control side.
type FrontOptions struct {
	StateDir string // the control socket and the router's log are in its subdirectory router
	Exe      string // the binary to re-execute as "Exe internal-router SOCKET"
	Log      *slog.Logger
	// Unresponsive gets *ft.Unresponsive and *ft.Responsive events, from a goroutine of the Front; it must not block.
	Unresponsive func(...ft.Event)
}

// Front is the router's control side, in the daemon. Safe for concurrent use.
type Front struct{}

// Attach finds the running router of the state directory and takes its listeners and table over, or starts one.
func Attach(ctx context.Context, o FrontOptions) (*Front, error) { return &Front{}, nil }

// Open listens for the pool, if it does not yet, and publishes how its requests are routed.
func (f *Front) Open(ctx context.Context, pool *ft.Pool) error { return nil }

// CloseListener ends the serving of a pool.
func (f *Front) CloseListener(ctx context.Context, pool ft.PoolName) error { return nil }

// Pool is the front of one pool.
func (f *Front) Pool(name ft.PoolName) *PoolFront { return &PoolFront{} }

// Snapshot is the pool's totals.
func (f *Front) Snapshot(ctx context.Context, pool ft.PoolName) (Stats, error) { return Stats{}, nil }

// Addr is the address on which the pool is served; empty where it is not.
func (f *Front) Addr(pool ft.PoolName) string { return "" }

// PID is the router's process.
func (f *Front) PID() int { return 0 }

// Close leaves the router running.
func (f *Front) Close() error { return nil }

// Shutdown ends the router: requests in flight may finish until ctx ends.
func (f *Front) Shutdown(ctx context.Context) error { return nil }

// PoolFront takes a pool's instances in and out of service and measures them: an ft.Front, ft.Source and ft.Batcher.
type PoolFront struct{}

var (
	_ ft.Front   = (*PoolFront)(nil)
	_ ft.Source  = (*PoolFront)(nil)
	_ ft.Batcher = (*PoolFront)(nil)
)

// Admit puts the instance into service; it returns when new work can reach it.
func (p *PoolFront) Admit(ctx context.Context, in ft.Instance, weight float64) error { return nil }

// Weigh sets its share of traffic, 0 to 1.
func (p *PoolFront) Weigh(ctx context.Context, ref ft.Ref, weight float64) error { return nil }

// Drain takes it out of service and returns when nothing is in flight, or ErrDeadline.
func (p *PoolFront) Drain(ctx context.Context, ref ft.Ref, deadline time.Time) error { return nil }

// Remove forgets it.
func (p *PoolFront) Remove(ctx context.Context, ref ft.Ref) error { return nil }

// Dimensions are what the router measures of an instance.
func (p *PoolFront) Dimensions() []ft.Dimension { return nil }

// Categories is the number of route counts.
func (p *PoolFront) Categories() int { return 32 }

// Attach opens the counters of an instance.
func (p *PoolFront) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) { return nil, nil, nil }

// Batch fetches the counters of the whole pool.
func (p *PoolFront) Batch(ctx context.Context, now time.Time) error { return nil }

// Demand is what was asked of the pool between the last two batches.
func (p *PoolFront) Demand() ft.Demand { return ft.Demand{} }

// Labels are the names of the routes so far.
func (p *PoolFront) Labels() []string { return nil }
