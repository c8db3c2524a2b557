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

// The lists of processes of all instances' control groups are read every groupsEvery, and where there are many every
// groupsApart for each, which keeps it below a thousandth of a core even where several collectors do.
const (
	groupsEvery = 5 * time.Second
	groupsApart = 40 * time.Millisecond
)

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
	grouped map[int]grouped // who is in whose group
	readAt  time.Time       // of all groups
	fresh   []*claim        // whose groups were not read yet
	stale   bool            // a claim came or went since all processes were told whose they are
}

// grouped is whose group a process was in, and when, in clock ticks since boot.
type grouped struct {
	by    *claim
	ticks uint64
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
			c.claims.all, c.claims.owners, c.claims.grouped = map[lead]*claim{}, map[int]owned{}, map[int]grouped{}
		}
		c.claims.all[id] = x
		c.claims.stale = true
	}
	if session == id.pid {
		x.session = session
	}
	if groups := ownGroups(s); len(x.groups) == 0 && len(groups) > 0 {
		x.groups = groups
		c.claims.fresh, c.claims.stale = append(c.claims.fresh, x), true
	}
	x.users++
	return x
}

func (c *census) disclaim(x *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.users--; x.users == 0 {
		delete(c.claims.all, x.lead)
		c.claims.readAt, c.claims.stale = time.Time{}, true // whose group was around its
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
	case in.by != nil && in.by.users > 0 && b.start <= in.ticks: // else another has the number by now
		b.of, b.sure = in.by, true
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
	switch {
	case now.Sub(k.readAt).Abs() >= k.apart():
		k.readAt = now
		if moved := k.readAll(); !moved && !k.stale {
			return
		}
	case k.stale:
		k.readGroups(k.fresh)
	default:
		return
	}
	k.fresh, k.stale = k.fresh[:0], false
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

// apart is how long after one reading of all groups the next is due.
func (c *claims) apart() time.Duration {
	return max(groupsEvery, time.Duration(len(c.all))*groupsApart)
}

// readAll finds who is in whose group; moved: somebody is who is not known to be that one's.
func (c *claims) readAll() (moved bool) {
	clear(c.grouped)
	all := make([]*claim, 0, len(c.all))
	for _, x := range c.all {
		if len(x.groups) > 0 {
			all = append(all, x)
		}
	}
	c.readGroups(all)
	for pid, g := range c.grouped {
		o := c.owners[pid]
		moved = moved || o.by != g.by && (o.by == nil || o.by.lead != lead{pid, o.start})
	}
	return moved
}

// readGroups finds who is in the groups of some claims, as long as he is in no other's within.
func (c *claims) readGroups(of []*claim) {
	ticks := bootTicks()
	for _, x := range of {
		if x.users == 0 {
			continue
		}
		for _, dir := range x.groups {
			left := mostGroups
			pids := appendProcesses(nil, dir, &left)
			for _, pid := range pids {
				if g := c.grouped[pid]; g.by == nil || g.by.users == 0 || g.by.around(x) {
					c.grouped[pid] = grouped{x, ticks}
				}
			}
			if len(pids) > 0 {
				break // on a machine with both versions they need not be in both
			}
		}
	}
}

// around tells whether the other's group is the inner one, or the later of the same.
func (x *claim) around(o *claim) bool {
	return cmp.Or(cmp.Compare(len(x.groups[0]), len(o.groups[0])), cmp.Compare(x.serial, o.serial)) <= 0
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
