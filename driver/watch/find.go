package watch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// finder looks for servers.
type finder interface {
	// look returns those that are there. young tells that some were left out that may be none: it began just now and may
	// not have become what it will be.
	look(now time.Time) (seen []sighting, young bool, err error)
	// note says what of the selection is left out for good, and why.
	note() string
}

func finderOf(w *ft.Watch) (finder, error) {
	self, err := selfAndParents()
	if err != nil {
		return nil, err
	}
	switch {
	case w.Unit != "":
		return newUnits(w.Unit, self)
	case w.Cgroup != "":
		return newGroups(w.Cgroup, self)
	case w.Match != "":
		return newMatcher(w.Match, self)
	}
	return newNumbered(w.PIDs, self)
}

// selfAndParents are the processes that are never watched.
func selfAndParents() (map[int]bool, error) {
	self := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !self[pid]; {
		self[pid] = true
		s, err := procfs.ReadStat(pid)
		if err != nil {
			if pid == os.Getpid() {
				return nil, fmt.Errorf("this process: %w", err)
			}
			break // in a namespace the parent may not be seen
		}
		pid = s.Parent
	}
	return self, nil
}

// numbered are processes that were named by their numbers: those that had them at the first look.
type numbered struct {
	stats []procfs.Stat
	left  string
}

func newNumbered(pids []int, self map[int]bool) (*numbered, error) {
	n := &numbered{}
	for _, pid := range pids {
		s, err := procfs.ReadStat(pid)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("there is no process %d: %w", pid, ft.ErrNotFound)
		case err != nil:
			return nil, fmt.Errorf("process %d: %w", pid, err)
		case s.Dead():
			return nil, fmt.Errorf("process %d has ended: %w", pid, ft.ErrNotFound)
		case s.Kernel:
			return nil, fmt.Errorf("process %d is a thread of the kernel: %w", pid, ft.ErrInvalid)
		case self[pid]:
			return nil, fmt.Errorf("process %d is Fettle itself, or started it: %w", pid, ft.ErrInvalid)
		}
		if of := processOf(pid); of != pid {
			return nil, fmt.Errorf("%d is a thread of process %d; name the process: %w", pid, of, ft.ErrInvalid)
		}
		n.stats = append(n.stats, s)
	}
	for _, s := range n.stats {
		if of := n.above(s); of != 0 {
			return nil, fmt.Errorf("process %d descends from process %d, which is watched with all that descends from it; name one of them: %w", s.PID, of, ft.ErrInvalid)
		}
	}
	return n, nil
}

// processOf is the process that a number belongs to, which may be that of a thread.
func processOf(pid int) int {
	b, err := os.ReadFile(procfs.Path(pid, "status"))
	if err != nil {
		return pid
	}
	_, rest, _ := bytes.Cut(b, []byte("\nTgid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if of, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil {
		return of
	}
	return pid
}

// above is another of the named processes that this one descends from, 0 if there is none.
func (n *numbered) above(s procfs.Stat) int {
	for up, hops := s, 0; up.Parent > 0 && hops < mostHops; hops++ {
		for _, o := range n.stats {
			if o.PID == up.Parent && o.PID != s.PID {
				return o.PID
			}
		}
		var err error
		if up, err = procfs.ReadStat(up.Parent); err != nil {
			return 0
		}
	}
	return 0
}

// mostHops bounds a walk from a process to its parents, which change while one walks.
const mostHops = 256

func (n *numbered) look(time.Time) ([]sighting, bool, error) {
	var seen []sighting
	for _, s := range n.stats {
		if now, err := procfs.ReadStat(s.PID); err == nil && now.Start == s.Start && !now.Dead() {
			seen = append(seen, sighting{stat: s})
		}
	}
	n.left = ""
	if len(seen) == 0 {
		n.left = "all of the named processes have ended; what follows them has other numbers: watch those"
	}
	return seen, false, nil
}

func (n *numbered) note() string { return n.left }
