package watch

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// hierarchy is a mounted control group tree.
type hierarchy struct {
	dir         string   // where it is mounted
	controllers []string // of version 1; nil in version 2
	systemd     bool     // units stand in it
}

// hierarchies reads those that are mounted (cgroups(7)): version 2, and each of version 1.
func hierarchies() ([]hierarchy, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	hs := parseMounts(b)
	if len(hs) == 0 {
		return nil, fmt.Errorf("control groups: none are mounted here: %w", ft.ErrUnavailable)
	}
	return hs, nil
}

// parseMounts takes the lines of /proc/PID/mounts (fstab(5)).
func parseMounts(b []byte) []hierarchy {
	var hs []hierarchy
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 4 || slices.ContainsFunc(hs, func(h hierarchy) bool { return h.dir == f[1] }) {
			continue
		}
		switch f[2] {
		case "cgroup2":
			hs = append(hs, hierarchy{dir: unescape(f[1]), systemd: true})
		case "cgroup":
			h := hierarchy{dir: unescape(f[1]), controllers: []string{}}
			for o := range strings.SplitSeq(f[3], ",") {
				switch o {
				case "rw", "ro", "nosuid", "nodev", "noexec", "relatime", "noatime", "xattr", "clone_children", "release_agent":
				case "name=systemd":
					h.systemd = true
				default:
					h.controllers = append(h.controllers, o)
				}
			}
			hs = append(hs, h)
		}
	}
	return hs
}

// unescape undoes the octal escapes of a mount point.
func unescape(s string) string {
	for _, e := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

// group is a control group in all hierarchies in which it exists.
type group struct {
	v2 string
	v1 map[string]string // controller to directory
}

func groupOf(s ft.Scope) group { return group{s.CgroupV2, s.CgroupV1} }

// at is the group of a path below the mounts.
func at(hs []hierarchy, rel string) group {
	var g group
	for _, h := range hs {
		dir := filepath.Join(h.dir, rel)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue
		}
		if h.controllers == nil {
			g.v2 = dir
		}
		for _, c := range h.controllers {
			if g.v1 == nil {
				g.v1 = map[string]string{}
			}
			g.v1[c] = dir
		}
	}
	return g
}

// oomKills is how many of its processes the kernel killed for want of memory; 0 where that cannot be read.
func (g group) oomKills() uint64 {
	for _, f := range []string{g.v2 + "/memory.events", g.v1["memory"] + "/memory.oom_control"} {
		b, err := os.ReadFile(f)
		if err != nil || f[0] != '/' {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
				return n
			}
		}
	}
	return 0
}

// grouped finds the servers that are control groups: units, or paths that match.
type grouped struct {
	hs      []hierarchy // all
	search  []hierarchy // those in which the groups stand
	fits    func(rel string) (label string, ok bool)
	self    map[int]bool
	leaders map[string]procfs.Stat // the leader of each group, as of the last look
	left    string
}

// newUnits finds systemd units by their names. The tree that systemd makes tells them; nothing is asked of systemd.
func newUnits(pattern string, self map[int]bool) (*grouped, error) {
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	g := &grouped{hs: hs, self: self, leaders: map[string]procfs.Stat{}}
	for _, h := range hs {
		if h.systemd {
			g.search = append(g.search, h)
		}
	}
	if len(g.search) == 0 {
		return nil, fmt.Errorf("systemd keeps no control groups here (neither version 2 nor name=systemd is mounted): %w", ft.ErrUnavailable)
	}
	g.fits = func(rel string) (string, bool) {
		unit := path.Base(rel)
		return unit, unitFits(pattern, unit)
	}
	return g, nil
}

// unitEndings are those of units that have processes.
var unitEndings = []string{".service", ".scope", ".slice"}

func unitFits(pattern, unit string) bool {
	if !slices.ContainsFunc(unitEndings, func(e string) bool { return strings.HasSuffix(unit, e) }) {
		return false
	}
	if ok, _ := path.Match(pattern, unit); ok {
		// A pattern such as * is meant for services, not for the slices that they are in.
		return !strings.HasSuffix(unit, ".slice") || strings.HasSuffix(pattern, ".slice")
	}
	ok, _ := path.Match(pattern+".service", unit)
	return ok
}

// newGroups finds control groups by their paths.
func newGroups(pattern string, self map[int]bool) (*grouped, error) {
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for _, h := range hs {
		if rest, ok := strings.CutPrefix(pattern, h.dir+"/"); ok {
			pattern = rest
		}
	}
	pattern = "/" + strings.Trim(pattern, "/")
	return &grouped{
		hs: hs, search: hs, self: self, leaders: map[string]procfs.Stat{},
		fits: func(rel string) (string, bool) {
			ok, _ := path.Match(pattern, rel)
			return rel, ok
		},
	}, nil
}

// mostGroups bounds a walk.
const mostGroups = 100_000

func (g *grouped) look(time.Time) (seen []sighting, young bool, err error) {
	found := map[string]string{} // path to label
	for _, h := range g.search {
		n := 0
		g.walk(h.dir, "/", found, &n)
		if n > mostGroups {
			return nil, false, fmt.Errorf("%s has more than %d control groups: %w", h.dir, mostGroups, ft.ErrUnavailable)
		}
	}
	g.left = ""
	for _, rel := range slices.Sorted(maps.Keys(found)) {
		s, ok := g.leader(rel)
		switch {
		case !ok:
			continue
		case g.self[s.PID]:
			continue
		case unsettled(s):
			young = true // one that goes into the background has another leader in a moment
			continue
		}
		seen = append(seen, sighting{place: rel, label: found[rel], stat: s, group: at(g.hs, rel)})
	}
	for rel := range g.leaders {
		if _, is := found[rel]; !is {
			delete(g.leaders, rel)
		}
	}
	return seen, young, nil
}

// walk notes the groups that match, but none within one that does.
func (g *grouped) walk(dir, rel string, found map[string]string, n *int) {
	if *n++; *n > mostGroups {
		return
	}
	if label, ok := g.fits(rel); ok {
		found[rel] = label
		return
	}
	es, err := os.ReadDir(dir)
	if err != nil {
		return // it went in between
	}
	for _, e := range es {
		if e.IsDir() {
			g.walk(filepath.Join(dir, e.Name()), path.Join(rel, e.Name()), found, n)
		}
	}
}

// leader is the process that stands for a group: the one that did, while it runs; else the oldest of those that were not
// started from within. A group that Fettle itself is in has none.
func (g *grouped) leader(rel string) (procfs.Stat, bool) {
	if was, ok := g.leaders[rel]; ok {
		if s, err := procfs.ReadStat(was.PID); err == nil && s.Start == was.Start && !s.Dead() {
			return s, true
		}
		delete(g.leaders, rel)
	}
	var stats []procfs.Stat
	for _, pid := range g.members(rel) {
		if g.self[pid] {
			g.left = fmt.Sprintf("%s holds Fettle itself, and is not watched", rel)
			return procfs.Stat{}, false
		}
		if s, err := procfs.ReadStat(pid); err == nil && !s.Dead() && !s.Kernel {
			stats = append(stats, s)
		}
	}
	outer := slices.DeleteFunc(slices.Clone(stats), func(s procfs.Stat) bool {
		return slices.ContainsFunc(stats, func(p procfs.Stat) bool { return p.PID == s.Parent })
	})
	if len(outer) == 0 {
		return procfs.Stat{}, false
	}
	s := slices.MinFunc(outer, func(a, b procfs.Stat) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	g.leaders[rel] = s
	return s, true
}

// members are the processes of a group and of those within it, in the first hierarchy that tells any.
func (g *grouped) members(rel string) []int {
	for _, h := range g.search {
		if pids := processesBelow(nil, filepath.Join(h.dir, rel)); len(pids) > 0 {
			return pids
		}
	}
	return nil
}

func processesBelow(pids []int, dir string) []int {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err == nil {
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 { // 0 is one of another namespace
				pids = append(pids, pid)
			}
		}
	}
	es, _ := os.ReadDir(dir) // what could be read is used
	for _, e := range es {
		if e.IsDir() {
			pids = processesBelow(pids, filepath.Join(dir, e.Name()))
		}
	}
	return pids
}

func (g *grouped) note() string { return g.left }
