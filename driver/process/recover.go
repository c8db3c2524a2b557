package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/cgroup"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// recover adopts what the records name and runs, keeps what they name and has ended, clears what never came to run,
// and removes what no record names.
func (d *Driver) recover() error {
	pools, err := os.ReadDir(d.root)
	if err != nil {
		return err
	}
	for _, pool := range pools {
		if !pool.IsDir() {
			continue
		}
		dirs, err := os.ReadDir(filepath.Join(d.root, pool.Name()))
		if err != nil {
			return err
		}
		for _, e := range dirs {
			id := ft.InstanceID(e.Name())
			if !e.IsDir() || id.Pool() != ft.PoolName(pool.Name()) || id.Serial() == 0 {
				continue
			}
			if err := d.recoverOne(id); err != nil {
				return fmt.Errorf("recover %s: %w", id, err)
			}
		}
	}
	d.removeStaleGroups()
	return nil
}

// recoverOne settles one directory. It holds the lock, so that no shim is between record and identity meanwhile.
func (d *Driver) recoverOne(id ft.InstanceID) error {
	l := &life{id: id, dir: d.dir(id), verb: make(chan struct{}, 1)}
	f, err := d.settle(l)
	if err != nil && !missing(err) {
		return err
	}
	if f != nil {
		defer func() { _ = f.Close() }()
	}
	var rec record
	if err := load(l.dir, recordFile, &rec); err != nil {
		return d.discard(l, err)
	}
	var ident identity
	if err := load(l.dir, identityFile, &ident); err != nil && !missing(err) {
		d.log.Error("identity of an instance cannot be read", "instance", string(id), "error", err)
	}
	if ident.Token != rec.Token {
		// Under the lock this is final: a shim that comes now finds no record.
		d.log.Info("a start that was cut short is cleared", "instance", rec.Instance.Ref.String())
		if err := d.endAll(d.ctx, &rec, nil, 0); err != nil {
			return err
		}
		d.removeGroup(&rec)
		return removeDir(l.dir)
	}
	l.rec, l.ident = &rec, ident
	d.lives[id] = l
	d.ports[rec.Port] = true
	rec.Instance.Port = rec.Port // records of older versions do not have it there
	return d.adopt(l)
}

// settle takes the lock. A shim that hangs with it is ended first.
func (d *Driver) settle(l *life) (*os.File, error) {
	ctx, cancel := context.WithTimeout(d.ctx, lockTimeout)
	defer cancel()
	f, err := lock(ctx, l.dir)
	if !errors.Is(err, context.DeadlineExceeded) {
		return f, err
	}
	d.log.Error("a starting process hangs and is killed", "instance", string(l.id))
	if err := d.endAll(d.ctx, d.stub(l), nil, 0); err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(d.ctx, lockTimeout)
	defer cancel()
	return lock(ctx, l.dir)
}

// stub is enough of a record to find the processes of an instance whose own cannot be read.
func (d *Driver) stub(l *life) *record {
	return &record{
		Instance: ft.Instance{Ref: ft.Ref{ID: l.id}},
		Env:      []string{"FETTLE_DATA=" + filepath.Join(l.dir, dataDir)},
		Group:    d.tree.Plan(string(l.id)),
	}
}

// discard clears a directory without a record: what is left of a start or a stop that was cut short. One whose record
// cannot be read is kept aside for inspection, and its processes are ended, since nobody could manage them.
func (d *Driver) discard(l *life, why error) error {
	rec := d.stub(l)
	if err := d.endAll(d.ctx, rec, nil, 0); err != nil {
		return err
	}
	d.removeGroup(rec)
	if missing(why) {
		return removeDir(l.dir)
	}
	aside := l.dir + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000")
	d.log.Error("the record of an instance cannot be read: its processes were ended, its directory is kept", "instance", string(l.id), "error", why, "kept", aside)
	return os.Rename(l.dir, aside)
}

// adopt follows the process of a recovered record, or finds how it ended.
func (d *Driver) adopt(l *life) error {
	var e ending
	known := load(l.dir, exitFile, &e) == nil && e.Token == l.rec.Token
	if known {
		l.exit = &e.Exit
	}
	if l.ident.BootID != d.boot {
		d.lost(l, known)
		return nil
	}
	p, err := follow(l.ident)
	if errors.Is(err, procfs.ErrGone) {
		d.lost(l, known)
		return nil
	}
	if err != nil {
		return err
	}
	l.proc = p
	s, err := procfs.ReadStat(l.ident.PID)
	if err == nil && !s.Dead() {
		d.attend(l, p)
		return nil
	}
	// It has ended, and its parent has not asked for its status yet.
	if !known {
		exit := p.status()
		d.lost(l, false)
		exit.At, exit.LastOutput, exit.OOM = l.exit.At, l.exit.LastOutput, l.exit.OOM && exit.Code == 0
		l.exit = &exit
	}
	p.finish(*l.exit)
	return nil
}

// lost notes the end of a process that nobody saw.
func (d *Driver) lost(l *life, known bool) {
	if !known {
		l.exit = &ft.Exit{At: time.Now(), LastOutput: lastOutput(l.dir), OOM: l.rec.Group.OOMKills() > 0}
	}
}

// removeStaleGroups removes control groups under this state directory's parent that no instance has: a stop was cut
// short after the record was gone.
func (d *Driver) removeStaleGroups() {
	for _, name := range d.tree.List() {
		if d.lives[ft.InstanceID(name)] != nil {
			continue
		}
		rec := &record{Instance: ft.Instance{Ref: ft.Ref{ID: ft.InstanceID(name)}}, Group: d.tree.Plan(name)}
		if err := d.endGroup(rec.Group); err != nil {
			d.log.Error("a control group that no instance has cannot be cleared", "group", name, "error", err)
			continue
		}
		d.removeGroup(rec)
	}
}

func (d *Driver) endGroup(g cgroup.Group) error {
	deadline := time.Now().Add(killTimeout)
	for len(g.Procs()) > 0 {
		if err := g.Kill(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still there %s after SIGKILL: %s", killTimeout, describe(g.Procs()))
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// List is what exists, by serial: running instances, those that ended (Exit is set) until they are stopped, and those
// whose start was cut short by the end of a daemon, which Start carries on with. An empty name lists all pools.
func (d *Driver) List(ctx context.Context, pool ft.PoolName) ([]ft.Instance, error) {
	d.mu.Lock()
	var lives []*life
	for id, l := range d.lives {
		if pool == "" || id.Pool() == pool {
			lives = append(lives, l)
		}
	}
	d.mu.Unlock()
	var list []ft.Instance
	for _, l := range lives {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		in, ok := l.describe()
		if !ok {
			continue
		}
		if in.Exit == nil && in.Endpoint.Network == "" {
			in.Endpoint = l.present(ctx)
		}
		list = append(list, in)
	}
	slices.SortFunc(list, func(a, b ft.Instance) int {
		if a.ID.Pool() != b.ID.Pool() {
			return compare(a.ID.Pool(), b.ID.Pool())
		}
		return compare(a.ID.Serial(), b.ID.Serial())
	})
	return list, nil
}

// present is where an instance answers whose start was cut short before that was noted. Its port if nowhere yet.
func (l *life) present(ctx context.Context) ft.Endpoint {
	rec, _, ok := l.snapshot()
	if !ok || !rec.Serves {
		return ft.Endpoint{}
	}
	cs := candidates(&rec)
	for _, ep := range cs {
		if connect(ctx, ep, 100*time.Millisecond) == nil {
			return ep
		}
	}
	return cs[0]
}
