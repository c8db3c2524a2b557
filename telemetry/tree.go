package telemetry

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// The columns of procfs readers, in the order of its dimensions.
const (
	colCPU = iota
	colUser
	colSystem
	colWait
	colSwitches
	colRSS
	colAnon
	colMinor
	colMajor
	colRead
	colWritten
	colThreads
	colFDs
	colTopThread
	procColumns
)

// mostMembers bounds the processes of one instance that are read.
const mostMembers = 256

// tree reads an instance: its leader and all that is its by the rules of [claims].
//
// The sums only grow. What a member did is added as it does it. When a member is gone, its parent's counters of
// waited-for children have grown by all that it ever did: that part is taken off again, so that nothing counts twice.
// When nobody waited for it, there is nothing to take off, and what it did stays in the sum. Children that are another
// instance's are read for that alone.
type tree struct {
	census   *census
	claim    *claim
	mark     mark
	found    func(birth) // consider, bound once
	less     bool        // what is dear is left out of this read
	fdCount  fdCounter
	fdsEvery time.Duration // 0: each time
	fdsAt    time.Time
	dims     []ft.Dimension
	buf      buffers
	members  []*process // parents before children

	sum [procColumns]float64 // counters, in the units of the dimensions

	top    uint64    // nanoseconds that the busiest thread ran since readAt
	readAt time.Time // the last read
	fullAt time.Time // when a process was last left out, for there were too many

	hasIO bool          // the leader's I/O could be read when it was attached to
	lacks atomic.Uint32 // what cannot be told at present, as bits of lack
}

// lack is why some columns cannot be told for a while.
type lack uint32

const (
	lackMemory lack = 1 << iota // a main thread has ended, and the kernel shows no memory of the others
	lackIO                      // the leader's I/O may not be read any more
	lackAll                     // too many processes
)

// Missing implements [Reporter].
func (t *tree) Missing() ft.Unavailable {
	is := lack(t.lacks.Load())
	if is == 0 {
		return nil
	}
	u := ft.Unavailable{}
	if is&lackMemory != 0 {
		const why = "the main thread of one of its processes has ended: the kernel does not show its memory any more"
		u[ft.DimRSS], u[ft.DimAnon] = why, why
	}
	if is&lackIO != 0 {
		const why = "no permission to read /proc/PID/io any more: it runs as another user now"
		u[ft.DimRead], u[ft.DimWritten] = why, why
	}
	if is&lackAll != 0 {
		for _, d := range t.dims {
			u[d.Name] = tooMany
		}
	}
	return u
}

var tooMany = "it has more than " + strconv.Itoa(mostMembers) + " processes"

// Read implements [ft.Reader].
func (t *tree) Read(now time.Time, row []float64, _ []uint64) error { return t.read(now, row, false) }

// Dear implements [Thrifty]: there is a file for each thread, the kernel sums up over threads for io, and counts descriptors.
func (t *tree) Dear() ft.Dims {
	var d ft.Dims
	for _, c := range []int{colWait, colSwitches, colTopThread, colRead, colWritten, colFDs} {
		d = d.With(c)
	}
	return d
}

// ReadLess implements [Thrifty]. CPU time is that of stat, to a clock tick.
func (t *tree) ReadLess(now time.Time, row []float64, _ []uint64) error {
	return t.read(now, row, true)
}

func (t *tree) read(now time.Time, row []float64, less bool) error {
	err := t.recruit(now)
	if t.less = less; t.pass() {
		// A member is gone: its parent may have been read before it was waited for. Once more, until all agree, and in
		// full: what is to be taken off of the parent's I/O is there now.
		t.less = false
		for i := 0; i < 2 && t.pass(); i++ {
		}
	}
	t.account(row, !t.less && t.due(now))
	t.bury()
	if t.less {
		drop(row, t.Dear())
	} else {
		row[colTopThread] = t.busiest(row[colThreads], time.Now())
	}
	t.judge(row)
	return err
}

// judge notes what cannot be told, and takes back what was summed up over a part of the processes.
func (t *tree) judge(row []float64) {
	var is lack
	for i, p := range t.members {
		if !p.foreign && !p.now.dead && p.now.state == 'Z' {
			is |= lackMemory
		}
		if i == 0 && t.hasIO && !p.now.dead && !p.now.ioOK {
			is |= lackIO
		}
	}
	if !t.fullAt.IsZero() && time.Since(t.fullAt) < listEvery+groupsEvery { // until all have been looked at once more
		is |= lackAll
		fill(row, math.NaN())
	}
	t.lacks.Store(uint32(is))
}

// briefest is the least time over which the share of a thread is told: what a running thread did since its last
// scheduler tick (up to 10 ms) is not in its schedstat yet.
const briefest = 100 * time.Millisecond

// busiest is how many cores the busiest thread used since the last read. One thread uses one at most; what is above is
// of the moments between reading one thread and the next.
func (t *tree) busiest(threads float64, now time.Time) float64 {
	ran, span := t.top, now.Sub(t.readAt)
	t.top, t.readAt = 0, now
	if math.IsNaN(threads) || span < briefest {
		return math.NaN()
	}
	return min(float64(ran)/float64(span.Nanoseconds()), 1)
}

// due tells whether the descriptors are to be counted in this read.
func (t *tree) due(now time.Time) bool {
	if t.fdsEvery > 0 && !t.fdsAt.IsZero() && now.Sub(t.fdsAt).Abs() < t.fdsEvery {
		return false
	}
	t.fdsAt = now
	return true
}

// recruit adds the members that were born, or found, since the last time.
func (t *tree) recruit(now time.Time) error {
	n := len(t.members)
	var err error
	t.mark, err = t.census.follow(now, t.mark, t.found)
	if len(t.members) != n {
		slices.SortStableFunc(t.members, func(a, b *process) int {
			return cmp.Or(cmp.Compare(a.last.start, b.last.start), cmp.Compare(a.pid, b.pid))
		})
	}
	return err
}

func (t *tree) consider(b birth) {
	if len(t.members) == 0 || b.of == nil {
		return // the session's number may be another's by now
	}
	mine, child := b.of == t.claim, false
	for _, m := range t.members {
		if m.pid == b.pid {
			if m.last.start == b.start && m.foreign == mine {
				m.turn(&t.buf)
			}
			return
		}
		child = child || !m.foreign && m.pid == b.parent && m.last.start <= b.start
	}
	if mine || child {
		t.add(b, mine)
	}
}

// add makes a process a member. All that it did counts when it was born since the last read; else only what it will do.
func (t *tree) add(b birth, mine bool) {
	if len(t.members) >= mostMembers {
		if mine {
			t.fullAt = time.Now()
		}
		return
	}
	p, err := openProcess(b.pid, b.start, &t.fdCount, &t.buf)
	if err != nil {
		return // ended already: its parent has what it did
	}
	if p.foreign = !mine; mine && t.mark.ticks != 0 && (!b.listed || b.start > t.mark.ticks) {
		p.begin()
	}
	t.members = append(t.members, p)
}

// turn makes the process another instance's, or this one's for what it will do.
func (p *process) turn(buf *buffers) {
	if p.foreign = !p.foreign; p.foreign {
		return
	}
	p.lent = 0
	for i := range p.threads {
		p.threads[i].schedstat.close()
	}
	p.threads = p.threads[:0]
	p.listThreads(buf, nil)
}

// begin makes all that the process did so far count.
func (p *process) begin() {
	p.last.own, p.last.waited, p.last.read, p.last.written = usage{}, usage{}, 0, 0
	p.listed = false
	for i := range p.threads {
		p.threads[i].last = taskTimes{}
	}
}

// pass reads all members, parents first; it tells whether one was found gone in it.
func (t *tree) pass() bool {
	gone := false
	for _, p := range t.members {
		if p.now.gone {
			continue
		}
		p.readStat(&t.buf)
		if p.now.gone {
			gone = true
			continue
		}
		p.readMemory(&t.buf)
		if !t.less {
			p.readIO(&t.buf)
		}
	}
	return gone
}

// account adds what was done since the last read to the sums and fills the row.
func (t *tree) account(row []float64, countFDs bool) {
	var rss, anon, threads, fds float64
	alive, ioOK, memOK := 0, true, true
	for _, p := range t.members {
		if p.now.gone {
			continue
		}
		if p.foreign {
			p.last = p.now
			continue
		}
		waited, read, written := t.inherited(p)
		t.charge(p, waited, read, written)
		if p.now.dead {
			continue
		}
		alive++
		threads += float64(p.now.threads)
		rss += float64(p.now.rss * pageSize)
		anon += float64(p.now.anon * pageSize)
		memOK = memOK && (p.now.memOK || p.statm == closed)
		ioOK = ioOK && (p.now.ioOK || p.io == closed)
		if p.fds != closed && countFDs {
			fds += p.fdCount.count(p.fds, &t.buf)
		}
	}
	if !countFDs {
		fds = math.NaN()
	}
	if alive == 0 {
		fill(row, math.NaN())
		return
	}
	copy(row, t.sum[:])
	row[colRSS], row[colAnon], row[colThreads], row[colFDs] = rss, anon, threads, fds
	if !memOK {
		row[colRSS], row[colAnon] = math.NaN(), math.NaN()
	}
	if !ioOK {
		row[colRead], row[colWritten] = math.NaN(), math.NaN()
	}
}

// charge adds what p did since its last reading, and what it got from children that no member was seen as.
func (t *tree) charge(p *process, waited usage, read, written uint64) {
	own := p.now.own.minus(p.last.own)
	all := own.plus(waited)
	cpu := float64(own.user+own.system) / clockTick
	var d threadDelta
	if t.less {
		p.lent += cpu
	} else if d = p.readThreads(&t.buf); d.exact {
		ran := float64(d.run) / 1e9
		cpu, p.lent = max(ran-p.lent, 0), max(p.lent-ran, 0)
	} else {
		p.lent = 0
	}
	t.top = max(t.top, d.most)
	t.sum[colCPU] += cpu + float64(waited.user+waited.system)/clockTick
	t.sum[colUser] += float64(all.user) / clockTick
	t.sum[colSystem] += float64(all.system) / clockTick
	t.sum[colMinor] += float64(all.minor)
	t.sum[colMajor] += float64(all.major)
	t.sum[colWait] += float64(d.wait) / 1e9
	t.sum[colSwitches] += float64(d.turns)
	t.sum[colRead] += float64(read)
	t.sum[colWritten] += float64(written)
	p.last = p.now
}

// inherited is what the counters of p's ended children, and its I/O, grew by, less what those children did as members.
func (t *tree) inherited(p *process) (waited usage, read, written uint64) {
	waited = p.now.waited.minus(p.last.waited)
	read, written = less(p.now.read, p.last.read), less(p.now.written, p.last.written)
	left := waited.minor
	for _, q := range t.members {
		if !q.now.gone || t.heir(q) != p {
			continue
		}
		whole := q.last.own.plus(q.last.waited)
		// Each process has faults of its own; that they are missing in the parent says that nobody waited for it.
		if whole.minor > left {
			continue
		}
		left -= whole.minor
		waited = waited.minus(whole)
		read, written = less(read, q.last.read), less(written, q.last.written)
	}
	return waited, read, written
}

// heir is the nearest ancestor that is not gone, nil if there is none.
func (t *tree) heir(q *process) *process {
	for range len(t.members) {
		i := slices.IndexFunc(t.members, func(m *process) bool { return m.pid == q.last.parent && m != q })
		if i < 0 {
			return nil
		}
		if q = t.members[i]; !q.now.gone {
			return q
		}
	}
	return nil
}

// bury drops the members that are gone.
func (t *tree) bury() {
	t.members = slices.DeleteFunc(t.members, func(p *process) bool {
		if p.now.gone {
			p.close()
		}
		return p.now.gone
	})
}

// Close implements [ft.Reader].
func (t *tree) Close() error {
	for _, p := range t.members {
		p.close()
	}
	t.members = nil
	t.census.disclaim(t.claim)
	t.census.leave()
	return nil
}

func fill(row []float64, v float64) {
	for i := range row {
		row[i] = v
	}
}

// bootTicks is the time since boot in the unit of a process's start time; 0 where the clock cannot be read.
func bootTicks() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return uint64(ts.Sec)*clockTick + uint64(ts.Nsec)/(1e9/clockTick)
}
