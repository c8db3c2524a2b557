package telemetry

import (
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
	groups := time.NewTimer(groupsEvery)
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
			p.found(p.set.PassAll())
		case <-groups.C:
			groups.Reset(p.groups())
		case now := <-past.C:
			p.learn(now)
			p.hooks.review(now)
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

// groups makes members of what came into the control groups since the last look: it may have any parent. It tells in how
// long the next look is due.
func (p *Probes) groups() (due time.Duration) {
	p.grouping.Lock()
	defer p.grouping.Unlock()
	c := &p.census
	c.mu.Lock()
	c.claims.readAt = time.Time{} // now
	c.regroup(time.Now())
	due = c.claims.apart()
	list := slices.DeleteFunc(slices.Clone(c.list), func(b birth) bool { return !b.sure || c.claims.grouped[b.pid].by != b.of })
	c.mu.Unlock()
	was := p.grouped
	p.grouped = make(map[int]*claim, len(list))
	for _, b := range list {
		p.grouped[b.pid] = b.of
		if was[b.pid] != b.of {
			p.adopt(b)
		}
	}
	return due
}

// sweep makes members of all processes that are an instance's and nobody's yet, or another's by mistake.
func (p *Probes) sweep() (found int, err error) {
	c := &p.census
	c.mu.Lock()
	if len(c.claims.all) > 0 {
		err = c.listAll(time.Now(), 0)
		c.regroup(time.Now())
	}
	list := slices.DeleteFunc(slices.Clone(c.list), func(b birth) bool { return b.of == nil })
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	for _, b := range list {
		if p.adopt(b) {
			found++
		}
	}
	return found, nil
}

// adopt makes a process a member of whose it is. What the kernel made a member at its birth may know better who the nearest
// instance is: its parents may be gone by now. So it stays one unless that is sure, or of an instance that came later.
func (p *Probes) adopt(b birth) bool {
	fd, _, err := openPidfd(b.pid, b.start)
	if err != nil {
		return false // it has ended
	}
	defer unix.Close(fd)
	m, is, err := p.set.Of(fd)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.leads[b.of.lead]
	if x == nil || x.claim != b.of {
		return false
	}
	if is && p.valid(m) {
		if y := p.slots[m.Slot]; y == x || !b.sure && b.of.serial < y.claim.serial {
			return false
		}
	}
	if p.set.Join(fd, x.Member) != nil {
		return false
	}
	p.found(p.set.Pass(fd))
	return true
}

// valid tells whether a membership is that of a slot's present owner; p.mu is held.
func (p *Probes) valid(m bpf.Member) bool {
	x := p.slots[m.Slot]
	return x != nil && x.Serial == m.Serial
}
