package watch

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
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
// can be watched are left. What it reads of the kernel it reads without mu, for that may take long.
func (d *Driver) take(seen []sighting, now time.Time) ([]ft.Instance, error) {
	d.looking.Lock()
	defer d.looking.Unlock()
	known := d.known()
	ports := listeners{sockets: d.sockets}
	news := renew(known, &ports, now)
	lives, err := d.meet(seen, known, &ports, now)
	fresh, changed := d.settle(news, lives)
	if changed {
		err = errors.Join(err, d.memory.save(d.path))
	}
	return fresh, err
}

// known are the servers that run, and those whose end was not told yet.
func (d *Driver) known() []*life {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.lives))
}

// news is what became known of a server.
type news struct {
	*life
	became *program    // nil for the same
	at     ft.Endpoint // zero for nothing new
}

// renew looks again at servers that were found lately, or that do not listen yet.
func renew(known []*life, ports *listeners, now time.Time) (out []news) {
	for _, l := range known {
		n := news{life: l}
		if now.Sub(l.found) <= comesUpWithin {
			n.became = l.becomes()
		}
		if n.became != nil {
			l.search = search{} // its first look came too early
		}
		n.at = l.listens(ports, now)
		if n.became != nil || n.at.Network != "" {
			out = append(out, n)
		}
	}
	return out
}

// meet follows the servers that are not known, and reads all of them but their names.
func (d *Driver) meet(seen []sighting, known []*life, ports *listeners, now time.Time) (lives []*life, err error) {
	var own []string
	defer func() { d.own(ownNote(own)) }()
	for i := range seen {
		s := &seen[i]
		if slices.ContainsFunc(known, s.is) {
			continue
		}
		if name := managed(s.stat.PID); name != "" {
			own = append(own, name)
			continue
		}
		if len(known)+len(lives) >= ft.MostWatched {
			return lives, errors.Join(err, tooMany(len(seen)))
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
		l := &life{proc: p, oomKills: s.group.oomKills(), found: now, place: s.place, label: s.label}
		l.in = ft.Instance{
			Digest: prog.id, Label: label(s.label, &prog), Born: bornAt(s.stat.Start),
			Scope: ft.Scope{
				PID: s.stat.PID, StartTime: s.stat.Start, BootID: d.boot,
				CgroupV2: s.group.v2, CgroupV1: s.group.v1, NetNS: foreignNetNS(s.stat.PID),
			},
		}
		l.in.Endpoint = l.listens(ports, now)
		lives = append(lives, l)
	}
	return lives, err
}

// settle enters what became known and who is new, with their names. It tells whether the memory changed.
func (d *Driver) settle(known []news, lives []*life) (fresh []ft.Instance, changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range known {
		in := &n.in
		if in.Exit != nil || d.lives[in.Ref] != n.life {
			continue // it ended in between
		}
		if n.became != nil {
			in.Digest, in.Label = n.became.id, label(n.label, n.became)
			if n.place == "" {
				d.memory.moved(in.Ref, in.Digest)
				changed = true
			}
		}
		if n.at.Network != "" {
			in.Endpoint = n.at
		}
		fresh = append(fresh, *in)
	}
	for _, l := range lives {
		if d.ctx.Err() != nil {
			_ = l.proc.Close() // nobody follows it
			continue
		}
		n := named{Place: l.place, PID: l.in.Scope.PID, Start: l.in.Scope.StartTime, Boot: d.boot}
		if n.Place == "" {
			n.Place = l.in.Digest
		}
		ref, isNew := d.memory.name(d.pool, n, d.runs)
		changed = changed || isNew
		l.in.Ref = ref
		d.lives[ref] = l
		d.attend(l)
		fresh = append(fresh, l.in)
	}
	return fresh, changed
}

// is tells whether the server is this one.
func (s *sighting) is(l *life) bool {
	return l.in.Scope.PID == s.stat.PID && l.in.Scope.StartTime == s.stat.Start
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

// comesUpWithin is how long after a server was found it is looked at again, for a script may become the server that it
// starts.
const comesUpWithin = time.Minute

// becomes is the program that the server runs, nil where it is the one that it was found with.
func (l *life) becomes() *program {
	if len(commandLine(l.in.Scope.PID)) == 0 {
		return nil // it is ending
	}
	p := programOf(l.in.Scope.PID)
	if p.id == l.in.Digest || l.proc.Dying() {
		return nil
	}
	return &p
}

// listens looks where the server listens, unless that is known or was looked for lately.
func (l *life) listens(ports *listeners, now time.Time) ft.Endpoint {
	if l.in.Endpoint.Network != "" || l.in.Scope.NetNS != "" || !l.search.due(now) {
		return ft.Endpoint{}
	}
	return ports.of(l.in.Scope.PID)
}

// search is when it is looked for where a server listens: the longer it listens nowhere, the more seldom. One that never
// does so, a worker, costs next to nothing; one that begins late is found within longestSearch.
type search struct {
	next time.Time
	wait time.Duration
}

const longestSearch = time.Minute

// due tells whether it is time, and sets the next one.
func (s *search) due(now time.Time) bool {
	if now.Before(s.next) {
		return false
	}
	s.wait = min(max(2*s.wait, lookSoon), longestSearch)
	s.next = now.Add(s.wait)
	return true
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
