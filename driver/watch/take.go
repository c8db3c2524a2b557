package watch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// sighting is a server that a look found.
type sighting struct {
	place string // where it stands: servers that follow each other in one place have one name
	label string
	stat  procfs.Stat
	group group
}

// take names the servers that are new, follows them, and returns them, and those of which more is known now. More than
// can be watched are left.
func (d *Driver) take(seen []sighting) (fresh []ft.Instance, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := false
	for i := range seen {
		s := &seen[i]
		if l := d.lifeOf(s); l != nil {
			if l.listens() {
				fresh = append(fresh, l.in)
			}
			continue
		}
		if len(d.lives) >= ft.MostWatched {
			err = tooMany(len(seen))
			break
		}
		p, perr := procfs.Follow(s.stat.PID, s.stat.Start)
		if errors.Is(perr, procfs.ErrGone) {
			continue // it ended in between
		}
		if perr != nil {
			err = errors.Join(err, perr)
			continue
		}
		prog := programOf(s.stat.PID)
		if s.place == "" {
			s.place = prog.id
		}
		ref, isNew := d.memory.name(d.pool, s, d.boot, d.runs)
		changed = changed || isNew
		l := &life{proc: p, oomKills: s.group.oomKills(), found: time.Now()}
		l.in = ft.Instance{
			Ref: ref, Digest: prog.id, Label: label(s, &prog), Born: bornAt(s.stat.Start),
			Scope: ft.Scope{
				PID: s.stat.PID, StartTime: s.stat.Start, BootID: d.boot,
				CgroupV2: s.group.v2, CgroupV1: s.group.v1, NetNS: foreignNetNS(s.stat.PID),
			},
		}
		l.listens()
		d.lives[ref] = l
		d.attend(l)
		fresh = append(fresh, l.in)
	}
	if changed {
		err = errors.Join(err, d.memory.save(d.path))
	}
	return fresh, err
}

// lifeOf is the server that was seen, if it is known already. The caller holds mu.
func (d *Driver) lifeOf(s *sighting) *life {
	for _, l := range d.lives {
		if l.in.Scope.PID == s.stat.PID && l.in.Scope.StartTime == s.stat.Start {
			return l
		}
	}
	return nil
}

// runs tells whether the name is taken by a server that runs, or whose end was not told yet. The caller holds mu.
func (d *Driver) runs(id ft.InstanceID) bool {
	for ref := range d.lives {
		if ref.ID == id {
			return true
		}
	}
	return false
}

// attend follows a server to its end.
func (d *Driver) attend(l *life) {
	d.wg.Go(func() {
		var exit ft.Exit
		if !l.proc.Wait(func(fd int) { exit = l.proc.Ended(fd) }) {
			return
		}
		exit.At = time.Now()
		exit.OOM = (!exit.Known || exit.Signal == int(unix.SIGKILL)) && groupOf(l.in.Scope).oomKills() > l.oomKills
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.lives[l.in.Ref] != l {
			return // closed
		}
		l.in.Exit = &exit
		_ = l.proc.Close() // it has ended: nothing can be lost
		d.unheard = append(d.unheard, ending{l.in.Ref, exit})
		select {
		case d.wake <- struct{}{}:
		default:
		}
	})
}

// listenWithin is how long after a server was found it is asked where it listens, while it does not.
const listenWithin = time.Minute

// listens looks where the server listens, unless that is known. It tells whether that is new.
func (l *life) listens() bool {
	if l.in.Exit != nil || l.in.Endpoint.Network != "" || l.in.Scope.NetNS != "" || time.Since(l.found) > listenWithin {
		return false
	}
	l.in.Endpoint = endpointOf(l.in.Scope.PID)
	return l.in.Endpoint.Network != ""
}

// clockTick is in what the kernel counts start times towards programs: USER_HZ, 100 on all that Go runs on.
const clockTick = 100

// bornAt is when a process began that did so that many clock ticks after the boot.
func bornAt(start uint64) time.Time {
	return time.Now().Add(time.Duration(start)*(time.Second/clockTick) - sinceBoot()).UTC().Round(time.Second / clockTick)
}

// sinceBoot is 0 where the clock cannot be read.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// foreignNetNS is the process's network namespace where that is another than this one's; empty also where it cannot be read.
func foreignNetNS(pid int) string {
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return ""
	}
	its, err := os.Readlink(procfs.Path(pid, "ns/net"))
	if err != nil || its == mine {
		return ""
	}
	return its
}

// label says what a server is: its unit or group, and its program. Arguments are left out, since they may hold secrets.
func label(s *sighting, p *program) string {
	if s.label == "" {
		return p.name
	}
	return fmt.Sprintf("%s (%s)", s.label, p.name)
}

// commandLine is a process's arguments; empty for threads of the kernel and processes that have ended.
func commandLine(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}
