package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/durable"
	"github.com/fettle-dev/fettle/internal/procfs"
)

const (
	// killTimeout is how long processes may take to vanish after SIGKILL: only a process inside of the kernel does.
	killTimeout = 10 * time.Second
	// groupTimeout is how long a control group may stay busy after its last process.
	groupTimeout = 5 * time.Second
)

// Stop ends the instance: SIGTERM to its process group, and after the grace SIGKILL to all that belongs to it, until
// nothing does. Then its data is removed. Already gone is success.
func (d *Driver) Stop(ctx context.Context, ref ft.Ref, grace time.Duration) error {
	l, release, err := d.hold(ctx, ref.ID, false)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	defer release()
	if l == nil {
		return nil
	}
	if err := l.current(ref); err != nil {
		if errors.Is(err, ft.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("stop: %w", err)
	}
	if err := d.end(ctx, l, grace); err != nil {
		return fmt.Errorf("stop %s: %w", ref, err)
	}
	if err := d.remove(l); err != nil {
		return fmt.Errorf("stop %s: %w", ref, err)
	}
	return nil
}

// end ends all processes of the instance. On an error it may run on.
func (d *Driver) end(ctx context.Context, l *life, grace time.Duration) error {
	rec, p, ok := l.snapshot()
	if !ok {
		return nil
	}
	l.mu.Lock()
	was, ended := l.silent, l.exit != nil
	l.silent = true
	l.mu.Unlock()
	err := d.endAll(ctx, &rec, p, grace)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	l.silent = was
	late := l.exit
	l.mu.Unlock()
	// It ended after all, when nobody listened; and what asked for that has given up.
	if late != nil && !was && !ended {
		d.report(rec.Instance.Ref, *late)
	}
	return err
}

func (d *Driver) endAll(ctx context.Context, rec *record, p *proc, grace time.Duration) error {
	if p != nil && grace > 0 {
		if err := p.signalGroup(unix.SIGTERM); err != nil {
			return fmt.Errorf("terminate: %w", err)
		}
		// One that was stopped by a signal would not hear of it.
		if err := p.signalGroup(unix.SIGCONT); err != nil {
			return fmt.Errorf("terminate: %w", err)
		}
		if err := d.await(ctx, rec, p, grace); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(killTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left := d.members(rec, p)
		// Once the driver is closed nobody notes the leader's end any more.
		if len(left) == 0 && (p == nil || p.ended() || d.ctx.Err() != nil) {
			return nil
		}
		killed := rec.Group.Kill()
		for _, pid := range left {
			killed = errors.Join(killed, d.kill(pid, rec, p))
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("still there %s after SIGKILL: %s", killTimeout, describe(left)), killed)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// await waits until nothing of the instance runs any more or the grace is over.
func (d *Driver) await(ctx context.Context, rec *record, p *proc, grace time.Duration) error {
	over := time.NewTimer(grace)
	defer over.Stop()
	done := p.done
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-done:
			done = nil
		case <-tick.C:
		}
		if p.ended() && len(d.members(rec, p)) == 0 {
			return nil
		}
	}
}

// members are the processes of the instance that live.
func (d *Driver) members(rec *record, p *proc) []int {
	belongs := membership(rec, p)
	var left []int
	for _, pid := range procfs.List(nil) {
		if belongs(pid) {
			left = append(left, pid)
		}
	}
	return left
}

// membership tells whether a process is one of the instance's and lives. They are found in three ways: by control
// group, by session, and by the environment for those that left both. While the leader's process number is its own,
// its session is too; after its end the number of an empty session may be used again, so then the environment decides.
func membership(rec *record, p *proc) func(pid int) bool {
	group, me, data := rec.Group.Procs(), os.Getpid(), dataEntry(rec)
	session := 0
	if p != nil {
		if s, err := procfs.ReadStat(p.PID); err == nil && s.Start == p.StartTime {
			session = p.PID
		}
	}
	return func(pid int) bool {
		s, err := procfs.ReadStat(pid)
		if err != nil || pid <= 1 || pid == me || s.Dead() {
			return false
		}
		return session != 0 && s.Session == session || slices.Contains(group, pid) || hasEnv(pid, data)
	}
}

func dataEntry(rec *record) string { return "FETTLE_DATA=" + value(rec.Env, "FETTLE_DATA") }

// kill ends one process that was a member a moment ago, if it still is: the descriptor is opened before it is looked
// at again.
func (d *Driver) kill(pid int, rec *record, p *proc) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // gone
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !membership(rec, p)(pid) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// describe names processes with their commands and states, for an error.
func describe(pids []int) string {
	var s []string
	for _, pid := range pids {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		st, serr := procfs.ReadStat(pid)
		if err == nil && serr == nil {
			s = append(s, fmt.Sprintf("%d (%s, state %c)", pid, strings.TrimSpace(string(b)), st.State))
		}
	}
	return strings.Join(s, ", ")
}

// clear removes what says that the instance is there, and its control group; its data and output stay. Nothing of it
// may run.
func (d *Driver) clear(l *life) error {
	rec, p, ok := l.snapshot()
	if !ok {
		return nil
	}
	if err := clearRecord(l.dir); err != nil {
		return err
	}
	d.drop(&rec)
	if p != nil {
		p.close()
	}
	l.mu.Lock()
	l.rec, l.proc, l.exit, l.silent, l.ident = nil, nil, nil, false, identity{}
	l.mu.Unlock()
	return nil
}

// clearRecord removes the record under the lock, so that no shim is between its look at the record and its identity.
func clearRecord(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	f, err := lock(ctx, dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, name := range []string{recordFile, identityFile, exitFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !missing(err) {
			return err
		}
	}
	return durable.SyncDir(dir)
}

func (d *Driver) removeGroup(rec *record) {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	if err := rec.Group.Remove(ctx); err != nil {
		d.log.Warn("control group stays behind until the next start", "instance", rec.Instance.Ref.String(), "error", err)
	}
}

// remove clears the instance and removes its directory.
func (d *Driver) remove(l *life) error {
	if err := d.clear(l); err != nil {
		return err
	}
	return removeDir(l.dir)
}

func removeDir(dir string) error {
	if run := socketDir(dir); filepath.Dir(run) != dir {
		if err := removeAll(run); err != nil {
			return err
		}
	}
	return removeAll(dir)
}

// vacate ends and clears the life that is there, if any, to make room for the next one.
func (d *Driver) vacate(ctx context.Context, l *life, grace time.Duration) error {
	if err := d.end(ctx, l, grace); err != nil {
		return err
	}
	return d.clear(l)
}
