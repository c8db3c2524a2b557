package telemetry

import (
	"fmt"
	"sync"
	"time"
)

// census knows which processes there are: a list of all of them, made now and then, and the births since. A birth is
// noticed by the number that the youngest task got (/proc/loadavg): only the numbers given out since the last look are
// looked at, once for all instances. Processes that lived shorter than the time between two looks are never seen; what
// they used is in their parent's counters when it waited for them. It is safe for concurrent use.
type census struct {
	mu     sync.Mutex
	trees  int
	load   file
	proc   file // for the list
	buf    buffers
	pids   []int
	looked time.Time
	ticks  uint64 // clock ticks since boot at that time
	listed time.Time
	last   int   // the youngest number at the last look
	again  []int // numbers that were given out but not there yet: once more

	list    []birth // all processes, as of the listing
	listing uint64  // counts the listings
	births  []birth // since the listing
	claims  claims
}

// birth is a process as it was when it was found.
type birth struct {
	pid, parent, session int
	start                uint64
	// listed: it was in a list of all processes, and so may be older than the last look.
	listed bool

	of   *claim // whose it is, nil if nobody's
	sure bool   // it leads that instance, or is in its control group
}

const (
	// lookEvery bounds how often the births are looked at, however many instances and pools there are.
	lookEvery = 50 * time.Millisecond
	// listEvery is how often all processes are listed in any case, so that nothing that was missed stays so for long.
	listEvery = 30 * time.Second
	// mostBirths between two looks, and in all since a listing; with more, all processes are listed.
	mostBirths  = 256
	mostRecords = 4096
)

// join opens what is needed for the first of the trees that follow the census; leave closes it with the last.
func (c *census) join() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trees == 0 {
		var err error
		if c.load, err = open("/proc/loadavg"); err != nil {
			return err
		}
		if c.proc, err = open("/proc"); err != nil {
			c.load.close()
			return err
		}
		c.listed, c.looked = time.Time{}, time.Time{}
	}
	c.trees++
	return nil
}

func (c *census) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trees--
	if c.trees == 0 {
		c.load.close()
		c.proc.close()
	}
}

// look notes who was born since the last look. It costs one pread when nobody was.
func (c *census) look(now time.Time) error {
	if !c.looked.IsZero() && now.Sub(c.looked).Abs() < lookEvery {
		return nil
	}
	ticks := bootTicks()
	b, err := c.load.read(c.buf.b[:])
	if err != nil {
		return fmt.Errorf("read /proc/loadavg: %w", err)
	}
	youngest, ok := parseLastPID(b)
	if !ok {
		return fmt.Errorf("read /proc/loadavg: %q ends in no number", b)
	}
	c.looked, c.ticks = now, ticks
	n := youngest - c.last
	if n < 0 || n > mostBirths || len(c.births) > mostRecords || c.listed.IsZero() || now.Sub(c.listed).Abs() > listEvery {
		return c.listAll(now, youngest)
	}
	retry := len(c.again)
	for pid := c.last + 1; pid <= youngest; pid++ {
		if !c.note(pid) {
			c.again = append(c.again, pid)
		}
	}
	for _, pid := range c.again[:retry] {
		c.note(pid)
	}
	c.again = c.again[:copy(c.again, c.again[retry:])]
	c.last = youngest
	return nil
}

func (c *census) note(pid int) bool {
	b, ok := c.find(pid)
	if ok && !c.isThread(pid) {
		c.claims.tell(&b, c.listing)
		c.births = append(c.births, b)
	}
	return ok
}

func (c *census) find(pid int) (birth, bool) {
	f, err := open(procPath(pid, "stat"))
	if err != nil {
		return birth{}, false
	}
	defer f.close()
	b, err := f.read(c.buf.b[:])
	var s stat
	if err != nil || !parseStat(b, &s) {
		return birth{}, false
	}
	return birth{pid: s.pid, parent: s.parent, session: s.session, start: s.start}, true
}

// isThread tells a thread's number, which /proc knows too though it does not list it.
func (c *census) isThread(pid int) bool {
	f, err := open(procPath(pid, "status"))
	if err != nil {
		return false
	}
	defer f.close()
	b, err := f.read(c.buf.b[:])
	v := [1]uint64{}
	return err == nil && parseKeyed(b, []string{"Tgid"}, v[:]) == 1 && v[0] != uint64(pid)
}

func (c *census) listAll(now time.Time, youngest int) error {
	var err error
	if c.pids, err = c.proc.numbers(c.pids[:0], c.buf.dir[:]); err != nil {
		return fmt.Errorf("list /proc: %w", err)
	}
	c.list, c.births, c.again = c.list[:0], c.births[:0], c.again[:0]
	for _, pid := range c.pids {
		if b, ok := c.find(pid); ok {
			b.listed = true
			c.list = append(c.list, b)
		}
	}
	c.listing++
	c.tellAll()
	c.listed, c.last = now, youngest
	return nil
}

// mark is how far a tree has followed the census.
type mark struct {
	listing uint64
	births  int
	ticks   uint64 // clock ticks since boot at the look
}

// follow calls f with each process that was found since the mark, parents before children, and with
// all of them after a new listing, or when some were told anew whose they are. It returns the new mark, with the time of the look; f must not keep the census waiting.
func (c *census) follow(now time.Time, m mark, f func(birth)) (mark, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.look(now)
	c.regroup(now)
	if m.listing != c.listing {
		m.listing, m.births = c.listing, 0
		for _, b := range c.list {
			f(b)
		}
	}
	for ; m.births < len(c.births); m.births++ {
		f(c.births[m.births])
	}
	m.ticks = c.ticks
	return m, err
}
