// Package daemon wires the parts to the running thing: state directory, journal, router, driver, and for each pool
// telemetry, judge, planner and loop; and serves the API.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/journal"
	"github.com/fettle-dev/fettle/router"
)

// ErrKeep as the cause of the context's end leaves instances and router running for the next daemon.
var ErrKeep = errors.New("the daemon ends, instances run on")

// Options of [Run].
type Options struct {
	// StateDir holds journal, instances' data and sockets. It is made if it is missing and locked while Run runs.
	StateDir string
	// Socket of the API; StateDir/fettle.sock if empty.
	Socket string
	// Registry is a directory in which the daemon tells where it is, for clients that were told nothing; none if empty.
	Registry string
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
	// Ready is called in a goroutine of its own once the API answers and all pools are being brought up; may be nil.
	Ready func(c *client.Client)
	// Event is called with every event of every pool as it is folded, in order within a pool; it must not block. May be nil.
	Event func(pool fettle.PoolName, e fettle.Event)
	// Force, once closed, ends a shutdown at once: nothing is waited for any more. May be nil.
	Force <-chan struct{}
}

// daemon is what Run runs.
type daemon struct {
	o       Options
	log     *slog.Logger
	started time.Time
	store   *journal.Store
	front   *router.Front       // nil where the daemon only watches
	driver  *process.Driver     // nil where the daemon only watches
	caps    fettle.Capabilities // of driver
	metrics *metrics
	probes  probes
	bound   string // address of the metrics listener
	news    *bell  // rings when the journal took something

	end   chan api.Shutdown // capacity 1
	force chan struct{}     // closed when nothing is waited for any more
	once  sync.Once         // closes force

	change sync.Mutex // held while the set of pools changes
	mu     sync.Mutex
	pools  map[fettle.PoolName]*pool // guarded by mu
}

// Run runs a daemon until ctx ends or somebody asks for a shutdown. Unless the context's cause is [ErrKeep], or the
// shutdown says so, all instances are then drained and stopped and the router ends.
//
// A second daemon on a state directory is refused with an error that is [fettle.ErrConflict] and names the holder.
func Run(ctx context.Context, o Options) (err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.StateDir, err = filepath.Abs(o.StateDir); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	pools, err := check(o.Pools)
	if err != nil {
		return err
	}
	held, err := lock(o.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	d := &daemon{
		o: o, log: o.Log, started: time.Now(), news: newBell(), pools: map[fettle.PoolName]*pool{},
		end: make(chan api.Shutdown, 1), force: make(chan struct{}),
	}
	if err := d.open(ctx, d.acts(pools)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return d.run(ctx, pools)
}

// acts tells whether the daemon runs instances. One that only watches has no router, makes no control groups and starts
// no process.
func (d *daemon) acts(pools []fettle.Pool) bool {
	known, _ := Remembered(d.o.StateDir) // what cannot be read is told when the pools are brought up
	all := slices.Concat(pools, known)
	return len(all) == 0 || slices.ContainsFunc(all, func(p fettle.Pool) bool { return p.Watch == nil })
}

// open opens what is shared by all pools; driver and router only where it acts. Where it fails, all is closed again.
func (d *daemon) open(ctx context.Context, acts bool) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	exe := d.o.Exe
	if exe == "" {
		if exe, err = os.Executable(); err != nil {
			return fmt.Errorf("own binary: %w", err)
		}
	}
	if d.store, err = journal.Open(filepath.Join(d.o.StateDir, journalFile), d.log); err != nil {
		return err
	}
	if r := d.store.Recovered(); r != "" {
		d.log.Warn(r)
	}
	d.metrics = newMetrics(d)
	if !acts {
		return nil
	}
	if d.driver, err = process.New(process.Options{StateDir: d.o.StateDir, Log: d.log, Exe: exe}); err != nil {
		return fmt.Errorf("process driver: %w", err)
	}
	d.caps = fettle.Resolve(d.driver)
	d.front, err = router.Attach(ctx, router.FrontOptions{StateDir: d.o.StateDir, Exe: exe, Log: d.log, Unresponsive: d.post})
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	return nil
}

// close lets instances and router be.
func (d *daemon) close() error {
	errs := []error{d.probes.close()}
	if d.front != nil {
		errs = append(errs, d.front.Close())
	}
	if d.driver != nil {
		errs = append(errs, d.driver.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}

// run brings the pools up, serves, and ends as it is asked to.
func (d *daemon) run(ctx context.Context, pools []fettle.Pool) (err error) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	if d.driver != nil {
		wg.Go(func() { d.watchExits(work, d.driver) })
	}
	wg.Go(func() { d.watchdog(work) })
	wg.Go(func() { d.watchForce(work) })

	socket, stop, err := d.listen(&wg)
	if err != nil {
		return d.giveUp(err)
	}
	defer stop()
	if err := d.begin(ctx, pools); err != nil {
		return d.giveUp(err)
	}
	undo, unlisted, err := publish(Record{
		PID: os.Getpid(), StateDir: d.o.StateDir, Socket: socket, Version: d.o.Version, Started: d.started,
	}, d.o.Registry)
	if err != nil {
		return d.giveUp(err)
	}
	defer undo()
	if unlisted != nil {
		d.log.Warn("commands find this daemon only where they are told to: --state "+d.o.StateDir+", or FETTLE_STATE", "err", unlisted)
	}
	d.log.Info("daemon runs", "version", d.o.Version, "state", d.o.StateDir, "socket", socket, "router", d.routerPID())
	if d.o.Ready != nil {
		wg.Go(func() { d.o.Ready(client.New(socket)) })
	}
	var how api.Shutdown
	select {
	case how = <-d.end:
	case <-ctx.Done():
		how.Keep = errors.Is(context.Cause(ctx), ErrKeep)
	}
	if how.Force {
		d.forceNow()
	}
	d.log.Info("daemon ends", "keep", how.Keep, "force", how.Force)
	return d.stopAll(how.Keep)
}

// giveUp ends a daemon that could not begin. What the one before left, and nobody took over yet, goes on without.
func (d *daemon) giveUp(err error) error {
	keep := d.front != nil && d.front.Served() && len(d.all()) == 0
	return errors.Join(err, d.stopAll(keep))
}

// begin brings up the desired pools, or those that are remembered, and takes down those that are no longer desired.
func (d *daemon) begin(ctx context.Context, pools []fettle.Pool) error {
	known, err := Remembered(d.o.StateDir)
	if err != nil {
		d.log.Error("the pools of the last daemon are not known", "err", err)
	}
	if pools == nil {
		if pools, err = check(known); err != nil {
			return err
		}
	}
	d.change.Lock()
	defer d.change.Unlock()
	var gone []fettle.Pool
	for i := range known {
		if known[i].Watch == nil && !slices.ContainsFunc(pools, func(p fettle.Pool) bool { return p.Name == known[i].Name }) {
			known[i].Defaults()
			gone = append(gone, known[i])
		}
	}
	for i := range gone {
		if p, err := d.start(ctx, gone[i]); err != nil {
			d.log.Error("pool that is no longer wanted", "pool", gone[i].Name, "err", err)
		} else if err := d.remove(ctx, p); err != nil {
			d.log.Error("pool that is no longer wanted", "pool", gone[i].Name, "err", err)
		}
	}
	// All listeners first: an address that is taken is told before anything starts, as is what cannot be measured here.
	for i := range pools {
		if err := errors.Join(d.able(&pools[i]), d.openListener(ctx, &pools[i])); err != nil {
			return err
		}
	}
	for i := range pools {
		if _, err := d.start(ctx, pools[i]); err != nil {
			return err
		}
	}
	return remember(d.o.StateDir, pools)
}

func (d *daemon) openListener(ctx context.Context, p *fettle.Pool) error {
	if p.Serve != fettle.HTTP {
		return nil
	}
	if d.front == nil {
		return onlyWatches()
	}
	return taken(d.front.Open(ctx, p), p.Listen)
}

// check fills defaults and refuses pools that are wrong.
func check(pools []fettle.Pool) ([]fettle.Pool, error) {
	if pools == nil {
		return nil, nil
	}
	out := slices.Clone(pools)
	names, addrs := map[fettle.PoolName]bool{}, map[string]fettle.PoolName{}
	for i := range out {
		p := &out[i]
		p.Defaults()
		var bad []string
		for _, e := range p.Validate() {
			bad = append(bad, e.Error())
		}
		if names[p.Name] {
			bad = append(bad, "name: there are two of this name")
		}
		if other, is := addrs[p.Listen]; is && p.Listen != "" && !strings.HasSuffix(p.Listen, ":0") {
			bad = append(bad, fmt.Sprintf("listen: %s is that of pool %s too", p.Listen, other))
		}
		names[p.Name], addrs[p.Listen] = true, p.Name
		if len(bad) > 0 {
			return nil, fmt.Errorf("pool %s: %s: %w", p.Name, strings.Join(bad, "; "), fettle.ErrInvalid)
		}
	}
	return out, nil
}

// post hands events to the loops of the pools that they are about.
func (d *daemon) post(es ...fettle.Event) {
	for _, e := range es {
		if p := d.find(fettle.EventRef(e).ID.Pool()); p != nil {
			p.loop.Post(e)
		}
	}
}

// routerPID is 0 where there is none.
func (d *daemon) routerPID() int {
	if d.front == nil {
		return 0
	}
	return d.front.PID()
}

func (d *daemon) watchExits(ctx context.Context, driver fettle.Driver) {
	err := driver.Watch(ctx, func(ref fettle.Ref, x fettle.Exit) {
		at := x.At
		if at.IsZero() {
			at = time.Now()
		}
		d.post(&fettle.Exited{Stamp: fettle.Stamp{At: at.UTC().Round(0)}, Ref: ref, Exit: x})
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("exits of instances are no longer seen", "err", err)
	}
}

// watchForce ends all waiting when the caller says so.
func (d *daemon) watchForce(ctx context.Context) {
	select {
	case <-d.o.Force: // nil blocks for ever
		d.forceNow()
	case <-ctx.Done():
	}
}

func (d *daemon) forceNow() { d.once.Do(func() { close(d.force) }) }

// watchdog says when a part of an engine hangs, and when it goes on.
func (d *daemon) watchdog(ctx context.Context) {
	said := map[fettle.PoolName]string{}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, p := range d.all() {
				what, is := p.loop.Stalled(now)
				switch was := said[p.name]; {
				case is && was == "":
					d.log.Error("engine stalled", "pool", p.name, "what", what)
				case !is && was != "":
					d.log.Warn("engine goes on", "pool", p.name)
				}
				said[p.name] = what
			}
		}
	}
}

func (d *daemon) find(name fettle.PoolName) *pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pools[name]
}

// all are the pools by name.
func (d *daemon) all() []*pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*pool, 0, len(d.pools))
	for _, p := range d.pools {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *pool) int { return strings.Compare(string(a.name), string(b.name)) })
	return out
}

// unixListener listens on a socket that only this user may open. A socket that nobody answers on is replaced.
func unixListener(path string) (net.Listener, error) {
	if len(path) > maxSocket {
		return nil, fmt.Errorf("socket %s: the path is longer than %d characters: %w", path, maxSocket, fettle.ErrInvalid)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s: somebody serves it already: %w", path, fettle.ErrConflict)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("socket %s: there is a file of another kind: %w", path, fettle.ErrConflict)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}
