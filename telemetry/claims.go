package telemetry

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// groupsEvery is how often the lists of processes of the instances' control groups are read.
const groupsEvery = 5 * time.Second

// mostGroups bounds the control groups of one instance that are read.
const mostGroups = 256

// claims tell whose a process is among the instances that a census serves, so that each counts for one instance in all
// collectors. The first that holds:
//
//  1. it leads an instance;
//  2. it is in an instance's own control group or in one below; of nested ones the innermost counts;
//  3. it was an instance's before, or its parent is one's: of the two, that of the instance that was attached to later;
//  4. it is in the session that an instance's leader leads.
//
// They are guarded by the census' mutex.
type claims struct {
	all     map[lead]*claim
	serial  uint64
	owners  map[int]owned
	grouped map[int]*claim // who is in whose group
	ticks   uint64         // clock ticks since boot when the groups were read
	readAt  time.Time
	stale   bool // a claim came or went since all processes were told whose they are
}

// lead identifies the leader of an instance.
type lead struct {
	pid   int
	start uint64
}

// claim is one instance's.
type claim struct {
	lead
	serial  uint64 // later claims have higher ones
	session int    // the leader's own, 0 if it leads none
	groups  []string
	users   int // 0: nobody's any more
}

// owned is a process that was told whose it is.
type owned struct {
	start   uint64
	by      *claim
	listing uint64
}

// claim makes an instance known; disclaim takes it back.
func (c *census) claim(id lead, session int, s ft.Scope) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.claims.all[id]
	if x == nil {
		c.claims.serial++
		x = &claim{lead: id, serial: c.claims.serial}
		if c.claims.all == nil {
			c.claims.all, c.claims.owners, c.claims.grouped = map[lead]*claim{}, map[int]owned{}, map[int]*claim{}
		}
		c.claims.all[id] = x
		c.claims.stale = true
	}
	if session == id.pid {
		x.session = session
	}
	if groups := ownGroups(s); len(x.groups) == 0 && len(groups) > 0 {
		x.groups = groups
		c.claims.stale = true
	}
	x.users++
	return x
}

func (c *census) disclaim(x *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.users--; x.users == 0 {
		delete(c.claims.all, x.lead)
		c.claims.stale = true
	}
}

// ownGroups are the folders of an instance's own control group, the one to be asked for processes first.
func ownGroups(s ft.Scope) []string {
	var dirs []string
	if s.CgroupV2 != "" {
		dirs = append(dirs, s.CgroupV2)
	}
	for _, name := range slices.Sorted(maps.Keys(s.CgroupV1)) {
		return append(dirs, s.CgroupV1[name])
	}
	return dirs
}

// tell says whose the process is, and whether by the first two rules.
func (c *claims) tell(b *birth, listing uint64) {
	b.of, b.sure = nil, false
	if len(c.all) == 0 {
		return
	}
	leads, in := c.all[lead{b.pid, b.start}], c.grouped[b.pid]
	switch {
	case leads != nil:
		b.of, b.sure = leads, true
	case in != nil && in.users > 0 && b.start <= c.ticks: // else another has the number by now
		b.of, b.sure = in, true
	default:
		b.of = c.related(b)
	}
	if b.of != nil {
		c.owners[b.pid] = owned{b.start, b.of, listing}
	}
}

func (c *claims) related(b *birth) *claim {
	var of *claim
	if is := c.owners[b.pid]; is.by != nil && is.by.users > 0 && is.start == b.start {
		of = is.by
	}
	if p := c.owners[b.parent]; p.by != nil && p.by.users > 0 && p.start <= b.start && (of == nil || p.by.serial > of.serial) {
		of = p.by
	}
	if of != nil {
		return of
	}
	for _, x := range c.all {
		if x.session != 0 && x.session == b.session && x.start <= b.start {
			return x // nobody else leads that session
		}
	}
	return nil
}

// forget drops the processes that were in no listing since.
func (c *claims) forget(listing uint64) {
	maps.DeleteFunc(c.owners, func(_ int, o owned) bool { return o.listing < listing })
}

// regroup reads the control groups where that is due, and tells anew whose all processes are where something changed.
func (c *census) regroup(now time.Time) {
	k := &c.claims
	if !k.stale && now.Sub(k.readAt).Abs() < groupsEvery {
		return
	}
	k.readAt = now
	if moved := k.readGroups(); !moved && !k.stale {
		return
	}
	k.stale = false
	known := make(map[int]bool, len(c.list)+len(c.births))
	c.list = append(c.list, c.births...)
	for i := range c.list {
		known[c.list[i].pid] = true
		c.list[i].listed = true
	}
	for pid := range k.grouped {
		if b, ok := c.find(pid); ok && !known[pid] {
			b.listed = true
			c.list = append(c.list, b)
		}
	}
	c.births = c.births[:0]
	c.listing++
	c.tellAll()
}

// tellAll tells whose all of the list are.
func (c *census) tellAll() {
	slices.SortFunc(c.list, func(a, b birth) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid))
	})
	for i := range c.list {
		c.claims.tell(&c.list[i], c.listing)
	}
	c.claims.forget(c.listing)
}

// readGroups finds who is in whose group; moved: somebody is who is not known to be that one's.
func (c *claims) readGroups() (moved bool) {
	clear(c.grouped)
	c.ticks = bootTicks()
	all := make([]*claim, 0, len(c.all))
	for _, x := range c.all {
		if len(x.groups) > 0 {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b *claim) int { // the innermost last
		return cmp.Or(cmp.Compare(len(a.groups[0]), len(b.groups[0])), cmp.Compare(a.serial, b.serial))
	})
	for _, x := range all {
		for _, dir := range x.groups {
			left := mostGroups
			pids := appendProcesses(nil, dir, &left)
			for _, pid := range pids {
				c.grouped[pid] = x
			}
			if len(pids) > 0 {
				break // on a machine with both versions they need not be in both
			}
		}
	}
	for pid, x := range c.grouped {
		o := c.owners[pid]
		moved = moved || o.by != x && (o.by == nil || o.by.lead != lead{pid, o.start})
	}
	return moved
}

// appendProcesses appends the processes of a control group and of all below it; left is how many groups may be read.
func appendProcesses(dst []int, dir string, left *int) []int {
	if *left == 0 {
		return dst
	}
	*left--
	if f, err := open(dir + "/cgroup.procs"); err == nil {
		if b, err := f.all(nil); err == nil { // a threaded group has none; they are in the one above
			dst = appendNumbers(dst, b)
		}
		f.close()
	}
	// The kernel counts two links of a group, and one for each below it: most have none and need not be listed.
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Nlink == 2 {
		return dst
	}
	entries, _ := os.ReadDir(dir) // what was read of a group that vanishes meanwhile is all that is left of it
	for _, e := range entries {
		if e.IsDir() {
			dst = appendProcesses(dst, dir+"/"+e.Name(), left)
		}
	}
	return dst
}
