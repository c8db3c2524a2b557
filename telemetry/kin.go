package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// kin are the processes of an instance, for a collector that looks at them now and then and keeps one descriptor of
// each: those that are its by the rules of [claims].
type kin struct {
	census  *census
	claim   *claim
	mark    mark
	members []relative
	buf     [4096]byte
	all     []byte
}

// relative is one of the processes. Its descriptor belongs to the process, not to the number.
type relative struct {
	pid      int
	start    uint64 // clock ticks since boot
	dir      file   // /proc/PID
	resident uint64 // bytes, as of the last gather

	cleared bool   // its referenced bits were cleared at the begin of the interval
	known   bool   // half and halfRSS are of this interval
	half    uint64 // bytes referenced until the middle of the interval
	halfRSS uint64
	held    time.Duration // that the kernel held the address space for our calls in this interval
}

// newKin opens the leader; census must be left by close.
func newKin(c *census, in ft.Instance) (*kin, error) {
	k := &kin{census: c}
	leader, s, err := k.open(in.Scope.PID, in.Scope.StartTime)
	if err != nil {
		return nil, err
	}
	if err := c.join(); err != nil {
		leader.dir.close()
		return nil, err
	}
	k.claim = c.claim(lead{s.pid, s.start}, s.session, in.Scope)
	k.members = append(k.members, leader)
	return k, nil
}

// open opens a process that began at that time (0: any).
func (k *kin) open(pid int, start uint64) (relative, stat, error) {
	var s stat
	r := relative{pid: pid, start: start, dir: closed}
	var err error
	if r.dir, err = openPath(procPath(pid, "")); err != nil {
		return r, s, unseen(pid, err)
	}
	b, err := r.read("stat", k.buf[:])
	switch {
	case err != nil:
		err = unseen(pid, err)
	case !parseStat(b, &s):
		err = fmt.Errorf("process %d: its stat is not understood", pid)
	case start != 0 && s.start != start:
		err = fmt.Errorf("process %d: began at tick %d, not at %d: another one has its number", pid, s.start, start)
	}
	if err != nil {
		r.dir.close()
		return r, s, err
	}
	r.start = s.start
	return r, s, nil
}

// read reads a file of the process from its start.
func (r *relative) read(name string, buf []byte) ([]byte, error) {
	f, err := r.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.read(buf)
}

func (r *relative) open(name string, flags int) (file, error) {
	fd, err := unix.Openat(int(r.dir), name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return closed, fmt.Errorf("open %s: %w", procPath(r.pid, name), err)
	}
	return file(fd), nil
}

// isGone tells that a process has ended.
func isGone(err error) bool { return errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) }

// gather adds who was born, drops who is gone, and sums up the resident bytes. The error says why the processes are not all
// known or not all readable.
func (k *kin) gather(now time.Time) (resident uint64, err error) {
	k.mark, err = k.census.follow(now, k.mark, k.consider)
	k.members = slices.DeleteFunc(k.members, func(r relative) bool {
		b, e := r.read("stat", k.buf[:])
		if e != nil {
			r.dir.close()
			return true
		}
		var s stat
		if parseStat(b, &s) && s.state == 'Z' && s.threads > 1 {
			err = errors.Join(err, fmt.Errorf("the main thread of process %d has ended: the kernel does not show its memory any more", s.pid))
		}
		return false
	})
	for i := range k.members {
		r := &k.members[i]
		r.resident = 0
		if b, e := r.read("statm", k.buf[:]); e == nil {
			pages, _, _ := parseStatm(b)
			r.resident = pages * pageSize
		}
		resident += r.resident
	}
	if len(k.members) >= mostMembers {
		err = errors.Join(err, fmt.Errorf("it has %d processes or more", mostMembers))
	}
	return resident, err
}

func (k *kin) consider(b birth) {
	if b.of == nil || len(k.members) == 0 { // the session's number may be another's by now
		return
	}
	i := slices.IndexFunc(k.members, func(r relative) bool { return r.pid == b.pid })
	switch {
	case i >= 0 && b.of != k.claim && k.members[i].start == b.start:
		k.members[i].dir.close()
		k.members = slices.Delete(k.members, i, i+1)
	case i < 0 && b.of == k.claim && len(k.members) < mostMembers:
		if r, _, err := k.open(b.pid, b.start); err == nil { // else it has ended already
			k.members = append(k.members, r)
		}
	}
}

func (k *kin) close() {
	for i := range k.members {
		k.members[i].dir.close()
	}
	k.members = nil
	k.census.disclaim(k.claim)
	k.census.leave()
}
