package watch

import (
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/fettle-dev/fettle/internal/procfs"
)

const (
	// settled is how long after it was first seen a process is read again at each look: it may run another program yet.
	settled = 10 * time.Second
	// rereadEvery is how often all processes are read again: one that runs another program late, or that has the number
	// of one that ended, is found by then.
	rereadEvery = 30 * time.Second
)

// matcher finds processes by their command lines. A look lists the numbers of all processes and reads those that are new.
type matcher struct {
	re   *regexp.Regexp
	self map[int]bool
	exe  string // this program's: another Fettle's command line names the same pattern

	procs map[int]*candidate
	read  time.Time // all, last
	pids  []int
}

type candidate struct {
	procfs.Stat
	fits bool
	seen time.Time // first
}

func newMatcher(pattern string, self map[int]bool) (*matcher, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	m := &matcher{re: re, self: self, procs: map[int]*candidate{}}
	m.exe, _ = os.Readlink("/proc/self/exe") // without it the pattern may match another watch
	return m, nil
}

func (m *matcher) look(now time.Time) (seen []sighting, young bool, err error) {
	m.refresh(now)
	for _, pid := range m.pids {
		c := m.procs[pid]
		if c == nil || !c.fits || m.below(c) {
			continue
		}
		if unsettled(c.Stat) {
			young = true
			continue
		}
		seen = append(seen, sighting{stat: c.Stat})
	}
	return seen, young, nil
}

// refresh brings the list of processes up to date.
func (m *matcher) refresh(now time.Time) {
	all := now.Sub(m.read).Abs() >= rereadEvery
	if all {
		m.read = now
	}
	m.pids = procfs.List(m.pids[:0])
	there := make(map[int]*candidate, len(m.pids))
	for _, pid := range m.pids {
		c := m.procs[pid]
		if c == nil || all || now.Sub(c.seen).Abs() < settled {
			c = m.readOne(pid, c, now)
		}
		if c != nil {
			there[pid] = c
		}
	}
	m.procs = there
}

// readOne is nil for a process that has ended.
func (m *matcher) readOne(pid int, was *candidate, now time.Time) *candidate {
	s, err := procfs.ReadStat(pid)
	if err != nil || s.Dead() {
		return nil
	}
	c := &candidate{Stat: s, seen: now}
	if was != nil && was.Start == s.Start {
		c.seen = was.seen
	}
	c.fits = !s.Kernel && !m.self[pid] && m.matches(pid)
	return c
}

func (m *matcher) matches(pid int) bool {
	line := strings.Join(commandLine(pid), " ")
	if line == "" || !m.re.MatchString(line) {
		return false
	}
	if m.exe == "" {
		return true
	}
	exe, err := os.Readlink(procfs.Path(pid, "exe"))
	return err != nil || exe != m.exe
}

// below tells whether another process that matches is above this one.
func (m *matcher) below(c *candidate) bool {
	for range mostHops {
		up := m.procs[c.Parent]
		if up == nil || up.Start > c.Start {
			return false
		}
		if up.fits {
			return true
		}
		c = up
	}
	return false
}

func (m *matcher) note() string { return "" }
