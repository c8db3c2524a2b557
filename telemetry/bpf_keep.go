package telemetry

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
)

const (
	// sweepEvery is how often all processes are gone through in any case, so that nothing that was missed stays so.
	sweepEvery = 30 * time.Second
	// sweepApart is the least time between two sweeps, however many instances come.
	sweepApart = 100 * time.Millisecond
	// sweepAgain bounds the sweeps in a row that are made because each found somebody.
	sweepAgain = 5
)

// keep finds the processes that an instance had before it was attached to, and what joined its control group since; all
// others the kernel itself makes members as they are born. It also follows how the destinations do.
func (p *Probes) keep() {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	groups := time.NewTicker(groupsEvery)
	defer groups.Stop()
	past := time.NewTicker(p.past)
	defer past.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-p.wake:
			p.settle()
		case <-sweep.C:
			p.settle()
		case <-groups.C:
			p.groups()
		case now := <-past.C:
			p.learn(now)
		}
	}
}

// settle sweeps until nobody new is found: who was born of a process before that became a member is found in the next.
func (p *Probes) settle() {
	for range sweepAgain {
		found, err := p.sweep()
		if err != nil {
			p.log.Debug("look for the processes of instances", "err", err)
		}
		select {
		case <-p.end:
			return
		case <-time.After(sweepApart):
		}
		if found == 0 {
			return
		}
	}
}

// groups makes members of what came into the control groups since the last look: it may have any parent.
func (p *Probes) groups() {
	p.grouping.Lock()
	defer p.grouping.Unlock()
	p.mu.Lock()
	of := map[*slot]string{}
	for _, x := range p.slots {
		if x.procs != "" {
			of[x] = x.procs
		}
	}
	p.mu.Unlock()
	for x, path := range of {
		now := bootTicks()
		pids := processesOf(path)
		for _, pid := range pids {
			if !slices.Contains(x.grouped, pid) {
				p.adopt(birth{pid: pid}, now, x)
			}
		}
		x.grouped = pids
	}
}

// processesOf lists a control group; none where it is gone.
func processesOf(path string) []int {
	f, err := open(path)
	if err != nil {
		return nil
	}
	defer f.close()
	b, err := f.all(nil)
	if err != nil {
		return nil
	}
	return appendNumbers(nil, b)
}

// kinship says whose a process is.
type kinship struct {
	leads    map[lead]*slot
	sessions map[int]*slot
	grouped  map[int]*slot
	members  map[int]*slot // as they are found, parents before children
}

// kinship collects who the instances are.
func (p *Probes) kinship() kinship {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := kinship{map[lead]*slot{}, map[int]*slot{}, map[int]*slot{}, map[int]*slot{}}
	for id, x := range p.leads {
		k.leads[id] = x
		if x.session != 0 {
			k.sessions[x.session] = x
		}
		if x.procs == "" {
			continue
		}
		for _, pid := range processesOf(x.procs) {
			k.grouped[pid] = x
		}
	}
	return k
}

// of finds a process's instance: itself, its parent's, its session's, its control group's.
func (k *kinship) of(b birth) *slot {
	x := k.leads[lead{b.pid, b.start}]
	for _, m := range []*slot{k.members[b.parent], k.sessions[b.session], k.grouped[b.pid]} {
		if x == nil && m != nil && b.start >= m.start {
			x = m
		}
	}
	return x
}

// sweep makes members of all processes that are an instance's and nobody's yet.
func (p *Probes) sweep() (found int, err error) {
	k := p.kinship()
	if len(k.leads) == 0 {
		return 0, nil
	}
	c := &p.census
	c.mu.Lock()
	err = c.listAll(time.Now(), 0)
	list := slices.Clone(c.list)
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(list, func(a, b birth) int { return cmp.Compare(a.start, b.start) })
	for _, b := range list {
		x := k.of(b)
		if x == nil {
			continue
		}
		k.members[b.pid] = x
		if p.adopt(b, b.start, x) {
			found++
		}
	}
	return found, nil
}

// adopt makes a process a member unless it is one already, of whichever instance. One that began after latest is another
// that has the number by now.
func (p *Probes) adopt(b birth, latest uint64, x *slot) bool {
	fd, s, err := openPidfd(b.pid, b.start)
	if err != nil {
		return false // it has ended
	}
	defer unix.Close(fd)
	if s.start > latest {
		return false
	}
	m, is, err := p.set.Of(fd)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if is && p.valid(m) || p.slots[x.Slot] != x {
		return false
	}
	return p.set.Join(fd, x.Member) == nil
}

// valid tells whether a membership is that of a slot's present owner; p.mu is held.
func (p *Probes) valid(m bpf.Member) bool {
	x := p.slots[m.Slot]
	return x != nil && x.Serial == m.Serial
}
