// Package watch is the driver of servers that run already and that somebody else runs. It finds them, names them and
// tells when they end; it changes nothing of them. All that it does is to read /proc and the control group tree, and to
// hold a descriptor of each server's process (pidfd_open(2)), by which its end is heard. It sends no signal and writes
// nothing but its own memory of names, below the state directory.
//
// # Instances
//
// What an instance is depends on how the servers are chosen ([ft.Watch]): a process with all that descends from it, the
// processes of a systemd unit, or those of a control group. In each case one process leads: the one that was named, that
// matched, or the oldest one that was not started from within the group. Its number, start time and boot are the
// instance's identity, and its end is the instance's end.
//
// # Names
//
// A server that comes back in the same place (the same unit or group, the same program) after one has ended there gets
// that one's name with the next generation; any other gets a new name. Names are remembered below the state directory,
// so that a second watch finds each server under the name that it had.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// lookEvery is how often new servers are looked for; lookSoon after one that was too young to tell.
const (
	lookEvery = 2 * time.Second
	lookSoon  = 500 * time.Millisecond
)

// Options of [Open].
type Options struct {
	// StateDir is where names are remembered, in a file for each pool.
	StateDir string
	// Log takes what cannot be told otherwise; discarded if nil.
	Log *slog.Logger
}

// Driver finds the servers of one pool. It is safe for concurrent use.
type Driver struct {
	pool ft.PoolName
	what string // the selection, for people
	log  *slog.Logger
	boot string
	path string // of the memory
	find finder

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	looking sync.Mutex // locked before mu; held for as long as reading takes
	memory  memory     // guarded by looking
	sockets func(pid int) map[uint64]bool

	mu      sync.Mutex       // held for moments
	lives   map[ft.Ref]*life // guarded by mu: those that run
	unheard []ending         // guarded by mu
	wake    chan struct{}    // holds a token when there may be something unheard
	note    string           // guarded by mu
	ours    string           // guarded by mu: what of the selection Fettle runs itself, in words
}

// life is a server that runs, or whose end was not told yet.
type life struct {
	in       ft.Instance // written with the driver's mu held; its scope stays
	proc     *procfs.Process
	oomKills uint64 // of its group, when it was found
	found    time.Time
	place    string // that its selection names; empty where its program is its place
	label    string // of that place
	search   search // for where it listens; guarded by looking
}

type ending struct {
	ref  ft.Ref
	exit ft.Exit
}

// Open finds the servers of a pool whose defaults are filled. It is an error when a process that is named does not run,
// or when more than [ft.MostWatched] are found; that nothing matches is none: it may come.
func Open(p *ft.Pool, o Options) (*Driver, error) {
	if p.Watch == nil {
		return nil, fmt.Errorf("pool %s says nothing of what to watch: %w", p.Name, ft.ErrInvalid)
	}
	d := &Driver{pool: p.Name, what: p.Watch.String(), log: o.Log, lives: map[ft.Ref]*life{}, wake: make(chan struct{}, 1), sockets: socketsOf}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	fail := func(err error) (*Driver, error) { return nil, fmt.Errorf("watch %s: %w", d.what, err) }
	var err error
	if d.boot, err = procfs.BootID(); err != nil {
		return fail(err)
	}
	if d.find, err = finderOf(p.Watch); err != nil {
		return fail(err)
	}
	d.path = memoryPath(o.StateDir, p.Name)
	if d.memory, err = recall(d.path); err != nil {
		d.log.Warn("the names of the last watch are not known", "pool", string(p.Name), "err", err)
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	seen, _, err := d.find.look(time.Now())
	if err == nil {
		err = tooMany(len(seen))
	}
	if err == nil {
		_, err = d.take(seen, time.Now())
	}
	if err == nil && len(p.Watch.PIDs) > 0 && d.ours != "" {
		err = fmt.Errorf("%s: %w", d.ours, ft.ErrInvalid)
	}
	if err != nil {
		return fail(errors.Join(err, d.Close()))
	}
	return d, nil
}

func tooMany(n int) error {
	if n <= ft.MostWatched {
		return nil
	}
	return fmt.Errorf("%d match, at most %d can be watched: give a pattern that fits fewer: %w", n, ft.MostWatched, ft.ErrInvalid)
}

// Close ends all looking and listening. The servers run on.
func (d *Driver) Close() error {
	d.cancel()
	d.mu.Lock()
	var errs []error
	for _, l := range d.lives {
		if l.in.Exit == nil {
			errs = append(errs, l.proc.Close())
		}
	}
	clear(d.lives)
	d.mu.Unlock()
	d.wg.Wait()
	return errors.Join(errs...)
}

// List is the servers that run, by serial.
func (d *Driver) List(_ context.Context, pool ft.PoolName) ([]ft.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []ft.Instance
	if pool != "" && pool != d.pool {
		return list, nil
	}
	for _, l := range d.lives {
		if l.in.Exit == nil {
			list = append(list, l.in)
		}
	}
	slices.SortFunc(list, func(a, b ft.Instance) int { return int(a.ID.Serial()) - int(b.ID.Serial()) })
	return list, nil
}

// Note says what of the selection is not watched, and why; empty where all of it is.
func (d *Driver) Note() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.note != "" && d.ours != "" {
		return d.note + "; " + d.ours
	}
	return d.note + d.ours
}

// own keeps what of the selection Fettle runs itself, in words.
func (d *Driver) own(note string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ours != note && note != "" {
		d.log.Warn("watch", "pool", string(d.pool), "note", note)
	}
	d.ours = note
}

// Find looks for new servers until ctx ends and reports each, and again when more is known of it: where
// it listens, which program it became.
func (d *Driver) Find(ctx context.Context, found func(ft.Instance)) error {
	t := time.NewTimer(lookSoon)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-t.C:
		}
		seen, young, err := d.find.look(time.Now())
		if err == nil {
			var fresh []ft.Instance
			fresh, err = d.take(seen, time.Now())
			for i := range fresh {
				found(fresh[i])
			}
		}
		d.noted(err)
		next := lookEvery
		if young {
			next = lookSoon
		}
		t.Reset(next)
	}
}

// noted keeps what kept the last look from being whole.
func (d *Driver) noted(err error) {
	note := d.find.note()
	if err != nil {
		note = strings.TrimSuffix(err.Error(), ": "+ft.ErrInvalid.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.note != note && note != "" {
		d.log.Warn("watch", "pool", string(d.pool), "note", note)
	}
	d.note = note
}

// Watch reports the ends of servers until ctx ends. A name is given to a later server only after the end of the one
// before was reported.
func (d *Driver) Watch(ctx context.Context, report func(ft.Ref, ft.Exit)) error {
	for {
		d.mu.Lock()
		news := d.unheard
		d.unheard = nil
		d.mu.Unlock()
		for _, e := range news {
			report(e.ref, e.exit)
			d.mu.Lock()
			delete(d.lives, e.ref)
			d.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-d.wake:
		}
	}
}

// Start is refused.
func (d *Driver) Start(context.Context, *ft.Pool, ft.Ref, ft.Work) (ft.Instance, error) {
	return ft.Instance{}, d.refuse()
}

// Stop is refused.
func (d *Driver) Stop(context.Context, ft.Ref, time.Duration) error { return d.refuse() }

func (d *Driver) refuse() error { return Refusal(d.pool) }

// Refusal is the error of everything that would touch a watched server.
func Refusal(pool ft.PoolName) error {
	return fmt.Errorf("%s is only watched: Fettle does not run these servers, so it starts, stops and changes none of them: %w", pool, ft.ErrUnavailable)
}
