package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// FrontOptions of the control side.
type FrontOptions struct {
	StateDir string // the control socket and the router's log are in its subdirectory router
	Exe      string // the binary to re-execute as "Exe internal-router SOCKET"
	Log      *slog.Logger
	// Unresponsive gets *ft.Unresponsive and *ft.Responsive events, one at a time, from a goroutine of the Front.
	// What is unresponsive when the Front attaches is said again.
	Unresponsive func(...ft.Event)
}

// Front is the router's control side, in the daemon. It holds the listening sockets and each pool's table, so that
// a router that dies is replaced by one that goes on where it was. Safe for concurrent use.
type Front struct {
	o      FrontOptions
	link   link
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup

	served bool // pools, before this front came

	mu    sync.Mutex
	pools map[ft.PoolName]*PoolFront
	pid   int
}

// Attach finds the running router of the state directory and takes its listeners and tables over, or starts one.
func Attach(ctx context.Context, o FrontOptions) (*Front, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Unresponsive == nil {
		o.Unresponsive = func(...ft.Event) {}
	}
	dir, err := filepath.Abs(filepath.Join(o.StateDir, "router"))
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	f := &Front{o: o, pools: map[ft.PoolName]*PoolFront{}}
	f.link.socket = filepath.Join(dir, "control.sock")
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if err := f.attach(ctx); err != nil {
		f.cancel()
		return nil, fmt.Errorf("router: %w", err)
	}
	f.done.Go(f.follow)
	return f, nil
}

func (f *Front) attach(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, lastChance)
	defer cancel()
	h, err := f.link.hello(asked)
	if err != nil {
		f.pid = f.link.owner(ctx)
		f.bury()
		return f.launch(ctx)
	}
	f.o.Log.Info("attached to the running router", "pid", h.PID, "pools", len(h.Tables))
	f.served = len(h.Tables) > 0
	for _, t := range h.Tables {
		r, l, err := f.link.ask(ctx, &wire.Request{Op: wire.OpListener, Pool: t.Pool}, nil)
		if err != nil {
			return fmt.Errorf("take pool %s over: %w", t.Pool, err)
		}
		if r.Listener {
			f.pools[t.Pool] = &PoolFront{f: f, name: t.Pool, table: t, listener: l}
		}
	}
	f.pid = h.PID
	if h.Protocol != wire.Protocol {
		// Another version's: its listeners are what matters. It finishes what it has while the new one serves.
		if _, _, err := f.link.ask(ctx, &wire.Request{Op: wire.OpShutdown}, nil); err != nil {
			return fmt.Errorf("end the router of protocol %d: %w", h.Protocol, err)
		}
		return f.launch(ctx)
	}
	return nil
}

// Open listens for the pool, if it does not yet, and publishes how its requests are routed.
func (f *Front) Open(ctx context.Context, pool *ft.Pool) error {
	p := f.Pool(pool.Name)
	var l *net.TCPListener
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil || p.table.Listen != pool.Listen || p.listener == nil {
		var err error
		if l, err = listen(ctx, pool.Listen); err != nil {
			return fmt.Errorf("pool %s: listen on %s: %w", pool.Name, pool.Listen, err)
		}
	}
	was, old := p.table, p.listener
	t := &wire.Table{}
	if p.table != nil {
		t = p.table.Clone()
	}
	if err := describe(t, pool); err != nil {
		return err
	}
	if l != nil {
		p.listener = l
	}
	if err := p.publish(ctx, t, l); err != nil {
		if l != nil {
			l.Close()
			p.table, p.listener = was, old
		}
		return fmt.Errorf("pool %s: %w", pool.Name, err)
	}
	if l != nil && old != nil {
		old.Close()
	}
	return nil
}

func listen(ctx context.Context, address string) (*net.TCPListener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if op, is := errors.AsType[*net.OpError](err); is {
		err = op.Err // the caller names operation and address
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program, or another pool, serves there already: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil // what ListenConfig gives for tcp
}

// describe fills in what the router needs to know of the pool.
func describe(t *wire.Table, pool *ft.Pool) error {
	t.Pool, t.Listen, t.Route, t.Concurrency = pool.Name, pool.Listen, pool.Route, pool.Image.Concurrency
	t.Readiness, t.Silence, t.Interval = pool.Probes.Readiness, pool.Limits.Silence, pool.Detect.Interval
	if t.Interval <= 0 {
		t.Interval = ft.Duration(time.Second)
	}
	t.Dir, t.Env = pool.Image.WorkDir, nil
	if t.Readiness != nil && len(t.Readiness.Command) > 0 {
		for _, name := range append([]string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}, pool.Image.Pass...) {
			if v, ok := os.LookupEnv(name); ok {
				t.Env = append(t.Env, name+"="+v)
			}
		}
		for name, v := range pool.Image.Env {
			t.Env = append(t.Env, name+"="+v)
		}
	}
	if a := t.Route.AccessLog; a != "" && a != "-" {
		abs, err := filepath.Abs(a)
		if err != nil {
			return fmt.Errorf("pool %s: access log: %w", pool.Name, err)
		}
		t.Route.AccessLog = abs
	}
	return nil
}

// CloseListener ends the serving of a pool: no connection is taken any more, requests in flight may finish.
func (f *Front) CloseListener(ctx context.Context, pool ft.PoolName) error {
	f.mu.Lock()
	p := f.pools[pool]
	delete(f.pools, pool)
	f.mu.Unlock()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener, p.table = nil, nil
	}
	if _, _, err := f.link.ask(ctx, &wire.Request{Op: wire.OpClose, Pool: pool}, nil); err != nil {
		return fmt.Errorf("pool %s: close listener: %w", pool, err)
	}
	return nil
}

// Pool is the front of one pool. It can be had before the pool is opened.
func (f *Front) Pool(name ft.PoolName) *PoolFront {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pools[name]
	if p == nil {
		p = &PoolFront{f: f, name: name}
		f.pools[name] = p
	}
	return p
}

// Snapshot is the pool's totals.
func (f *Front) Snapshot(ctx context.Context, pool ft.PoolName) (Stats, error) {
	r, _, err := f.link.ask(ctx, &wire.Request{Op: wire.OpStats, Pool: pool}, nil)
	if err != nil {
		return Stats{}, fmt.Errorf("pool %s: totals: %w", pool, err)
	}
	if r.Stats == nil {
		return Stats{}, fmt.Errorf("pool %s: the router sent no totals", pool)
	}
	return *r.Stats, nil
}

// Addr is the address on which the pool is served, with its real port; empty where it is not.
func (f *Front) Addr(pool ft.PoolName) string {
	p := f.Pool(pool)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return ""
	}
	return p.listener.Addr().String()
}

// PID is the router's process.
func (f *Front) PID() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pid
}

// Served tells whether a router that served pools was found: their users go on with it whatever becomes of this front.
func (f *Front) Served() bool { return f.served }

// Close leaves the router running. The listening sockets stay open in it.
func (f *Front) Close() error {
	f.cancel()
	f.done.Wait()
	f.link.close()
	f.closeListeners()
	return nil
}

// closeListeners closes this process's copies of the listening sockets: a socket refuses connections only when the
// last copy of it is closed.
func (f *Front) closeListeners() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pools {
		p.mu.Lock()
		if p.listener != nil {
			p.listener.Close()
			p.listener = nil
		}
		p.mu.Unlock()
	}
}

// Shutdown ends the router and closes the Front. New connections are refused at once; requests in flight may finish
// until ctx ends, then the router is killed.
func (f *Front) Shutdown(ctx context.Context) error {
	f.cancel() // or follow would start another
	f.done.Wait()
	f.closeListeners() // first: once the router has closed its own, nobody would answer what these still accept
	pid := f.PID()
	_, _, err := f.link.ask(ctx, &wire.Request{Op: wire.OpShutdown}, nil)
	if err != nil && !errors.Is(err, errNoRouter) {
		err = fmt.Errorf("end the router: %w", err)
	} else {
		err = nil
	}
	return errors.Join(err, f.Close(), awaitExit(ctx, pid))
}
