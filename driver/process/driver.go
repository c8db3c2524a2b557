// Package process is the driver for plain processes: any command that listens on $PORT or $FETTLE_SOCKET, or serves
// nothing.
//
// # State directory
//
//	instances/POOL/ID/instance.json   what is to run: written durably before anything runs
//	                  process.json    who it became: pid, start time, boot; written by the process itself before exec
//	                  exit.json       how it ended, where that was seen
//	                  lock            flock of whoever starts or clears the instance
//	                  output.log      stdout and stderr, the head cut off beyond 4 MiB
//	                  data/           private data, made from the image's directory and the specialization's files
//	                  run/            the unix socket
//
// # Life
//
// A command is started through a shim (see [Shim]), so that a daemon that dies at any instruction leaves either
// nothing or a process that the next one finds by its record. Records of which no process came are cleared under the
// same lock that the shim takes, so that a late shim finds its launch unwanted.
//
//	record -> shim: lock, check, identity -> exec -> startup probe -> warm-up -> record says ready
//
// An instance is its leader's session: the leader's end is the instance's, and Stop ends all that it left behind,
// found by session, control group and environment.
package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/cgroup"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// Options of a [Driver].
type Options struct {
	// StateDir holds the records, data and output of all instances. One driver at a time may use it.
	StateDir string
	// Log takes what the driver has to say that is no error of a call; none if nil.
	Log *slog.Logger
	// Exe is the binary whose subcommand [ShimCommand] calls [Shim]; the running one if empty.
	Exe string
}

// Driver makes instances that are processes. It is safe for concurrent use.
type Driver struct {
	log  *slog.Logger
	exe  string
	root string // absolute path of the instances' directory
	cwd  string // where commands run that have no directory of their own
	boot string
	tree *cgroup.Tree
	cut  cutter

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	lives   map[ft.InstanceID]*life
	ports   map[int]bool // given to an instance
	watch   []*watcher
	unheard []exited // exits that no watcher was there for
}

// New opens the driver over the state directory and adopts what runs there already.
func New(o Options) (*Driver, error) {
	dir, err := filepath.Abs(o.StateDir)
	if err != nil {
		return nil, fmt.Errorf("open process driver: %w", err)
	}
	d := &Driver{
		log: o.Log, exe: o.Exe, root: filepath.Join(dir, "instances"),
		lives: map[ft.InstanceID]*life{}, ports: map[int]bool{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.exe == "" {
		// Not by its path: the file there may have been replaced or removed since this process began.
		d.exe = "/proc/self/exe"
	}
	if d.cwd, err = os.Getwd(); err != nil {
		return nil, fmt.Errorf("open process driver: %w", err)
	}
	if d.boot, err = procfs.BootID(); err != nil {
		return nil, fmt.Errorf("open process driver: %w", err)
	}
	// Other users' instances must get through to their own directories, and see nothing else.
	if err := errors.Join(os.MkdirAll(d.root, 0o711), os.Chmod(d.root, 0o711)); err != nil {
		return nil, fmt.Errorf("open process driver: %w", err)
	}
	d.tree = cgroup.Find(GroupName(dir))
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := d.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open process driver: %w", err), d.Close())
	}
	d.wg.Go(d.cutOutputs)
	return d, nil
}

// GroupName is the name of the control group under which the instances of a state directory have theirs: a hash of its
// absolute path.
func GroupName(stateDir string) string {
	sum := sha256.Sum256([]byte(stateDir))
	return hex.EncodeToString(sum[:6])
}

// Close lets the instances run and frees what the driver holds.
func (d *Driver) Close() error {
	d.cancel()
	d.wg.Wait()
	if err := d.tree.Close(); err != nil {
		return fmt.Errorf("close process driver: %w", err)
	}
	return nil
}

func (d *Driver) dir(id ft.InstanceID) string {
	return filepath.Join(d.root, string(id.Pool()), string(id))
}

// OutputPath is the file with what the instance wrote to stdout and stderr. Only its last few MiB are kept: its head is
// cut off, so that offsets into it shift.
func (d *Driver) OutputPath(id ft.InstanceID) string { return filepath.Join(d.dir(id), outputFile) }

// life is an instance as the driver knows it.
type life struct {
	id   ft.InstanceID
	dir  string
	verb chan struct{} // holds the token of the one verb under way

	mu     sync.Mutex
	rec    *record // nil: nothing is there
	ident  identity
	proc   *proc // nil: no process was found
	exit   *ft.Exit
	silent bool // a verb makes the process end: no exit to report
}

// hold waits for the instance's turn. Without create it gives nil where nothing is there.
func (d *Driver) hold(ctx context.Context, id ft.InstanceID, create bool) (*life, func(), error) {
	if id.Pool() == "" || id.Serial() == 0 || filepath.Base(string(id)) != string(id) {
		return nil, nil, fmt.Errorf("instance %q: no pool and serial in its name: %w", id, ft.ErrInvalid)
	}
	for {
		d.mu.Lock()
		l := d.lives[id]
		if l == nil && create {
			l = &life{id: id, dir: d.dir(id), verb: make(chan struct{}, 1)}
			d.lives[id] = l
		}
		d.mu.Unlock()
		if l == nil {
			return nil, func() {}, nil
		}
		select {
		case l.verb <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%s: another action is under way: %w", id, ctx.Err())
		}
		d.mu.Lock()
		same := d.lives[id] == l
		d.mu.Unlock()
		if same {
			return l, func() { d.release(l) }, nil
		}
		<-l.verb // it went while this waited
	}
}

func (d *Driver) release(l *life) {
	l.mu.Lock()
	gone := l.rec == nil
	l.mu.Unlock()
	if gone {
		d.mu.Lock()
		if d.lives[l.id] == l {
			delete(d.lives, l.id)
		}
		d.mu.Unlock()
	}
	<-l.verb
}

// current checks that the Ref names the present life of the instance.
func (l *life) current(ref ft.Ref) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.rec == nil:
		return fmt.Errorf("%s: %w", ref, ft.ErrNotFound)
	case ref.Generation < l.rec.Instance.Generation:
		return fmt.Errorf("%s: %s is there: %w", ref, l.rec.Instance.Ref, ft.ErrStale)
	case ref.Generation > l.rec.Instance.Generation:
		return fmt.Errorf("%s: %s is there: %w", ref, l.rec.Instance.Ref, ft.ErrConflict)
	}
	return nil
}

// snapshot copies what the instance is.
func (l *life) snapshot() (rec record, p *proc, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rec == nil {
		return record{}, nil, false
	}
	return *l.rec, l.proc, true
}

// running tells whether its leader runs.
func (l *life) running() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec != nil && l.proc != nil && !l.proc.ended()
}

// describe is the instance as others see it.
func (l *life) describe() (ft.Instance, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rec == nil {
		return ft.Instance{}, false
	}
	in := l.rec.Instance
	in.Settings = slices.Clone(in.Settings)
	in.Scope = l.scope()
	if l.exit != nil {
		e := *l.exit
		in.Exit = &e
	}
	return in, true
}

func (l *life) scope() ft.Scope {
	s := ft.Scope{CgroupV2: l.rec.Group.V2, CgroupV1: l.rec.Group.V1}
	if l.ident.Token == l.rec.Token {
		s.PID, s.StartTime, s.BootID = l.ident.PID, l.ident.StartTime, l.ident.BootID
	}
	return s
}

// update changes the record, durably first.
func (l *life) update(change func(*record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rec == nil {
		return fmt.Errorf("%s: %w", l.id, ft.ErrNotFound)
	}
	rec := *l.rec
	rec.Instance.Settings = slices.Clone(rec.Instance.Settings)
	change(&rec)
	if err := save(l.dir, recordFile, rec); err != nil {
		return err
	}
	l.rec = &rec
	return nil
}

var _ interface {
	ft.Driver
	ft.Tuner
	ft.Specializer
	ft.SoftResetter
	ft.FullResetter
} = (*Driver)(nil)
