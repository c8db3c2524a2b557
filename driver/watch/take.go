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
func (d *Driver) take(seen []sighting) ([]ft.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	fresh, changed := d.renew()
	for i := range seen {
		s := &seen[i]
		if d.knows(s) {
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
		place := s.place
		if place == "" {
			s.place = prog.id
		}
		ref, isNew := d.memory.name(d.pool, s, d.boot, d.runs)
		changed = changed || isNew
		l := &life{proc: p, oomKills: s.group.oomKills(), found: time.Now(), place: place, label: s.label}
		l.in = ft.Instance{
			Ref: ref, Digest: prog.id, Label: label(s.label, &prog), Born: bornAt(s.stat.Start),
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

// renew looks again at servers that were found lately, and returns those of which more is known now. The caller holds mu.
func (d *Driver) renew() (more []ft.Instance, moved bool) {
	for _, l := range d.lives {
		if l.in.Exit != nil || time.Since(l.found) > comesUpWithin {
			continue
		}
		became, at := l.becomes(), l.listens()
		if became || at {
			more = append(more, l.in)
		}
		if became && l.place == "" {
			d.memory.moved(l.in.Ref, l.in.Digest)
			moved = true
		}
	}
	return more, moved
}

// knows tells whether the server is followed already. The caller holds mu.
func (d *Driver) knows(s *sighting) bool {
	for _, l := range d.lives {
		if l.in.Scope.PID == s.stat.PID && l.in.Scope.StartTime == s.stat.Start {
			return true
		}
	}
	return false
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

// comesUpWithin is how long after a server was found it is looked at again: a script may become the server that it
// starts, and the server may begin to listen.
const comesUpWithin = time.Minute

// becomes tells whether the server runs another program than it was found with.
func (l *life) becomes() bool {
	if len(commandLine(l.in.Scope.PID)) == 0 {
		return false // it is ending
	}
	p := programOf(l.in.Scope.PID)
	if p.id == l.in.Digest || l.proc.Dying() {
		return false
	}
	l.in.Digest, l.in.Label = p.id, label(l.label, &p)
	return true
}

// listens looks where the server listens, unless that is known. It tells whether that is new.
func (l *life) listens() bool {
	if l.in.Endpoint.Network != "" || l.in.Scope.NetNS != "" {
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
func label(of string, p *program) string {
	if of == "" {
		return p.name
	}
	return fmt.Sprintf("%s (%s)", of, p.name)
}

// commandLine is a process's arguments; empty for threads of the kernel and processes that have ended.
func commandLine(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}
