package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// clockTick is what the kernel counts CPU time in towards programs, whatever its own timer does: USER_HZ of
// include/asm-generic/param.h, 100 on all that Go runs on.
const clockTick = 100

// keptThreads is of how many threads of one process the descriptors are kept; those of the others are opened each time.
const keptThreads = 64

var pageSize = uint64(os.Getpagesize())

// buffers are shared by all that one reader reads.
type buffers struct {
	b    [4096]byte
	dir  [4096]byte
	tids []int
	st   unix.Stat_t
}

// process is one member of an instance, read by kept descriptors.
type process struct {
	pid   int
	dir   string
	stat  file
	statm file
	io    file
	fds   file
	tasks file

	threads []thread
	fdCount fdCounter
	foreign bool // it is a child, and another instance's

	now  reading
	last reading
	// listed: the last reading of threads had this very set of them, so that their nanoseconds are exact.
	listed bool
	lent   float64 // seconds of CPU that were counted by stat since then
}

// reading is all that one pass reads of a process.
type reading struct {
	stat
	gone bool
	// dead: it has ended and was not waited for yet. Its counters are final, it holds nothing any more.
	dead    bool
	ioOK    bool
	read    uint64
	written uint64
	memOK   bool
	rss     uint64
	anon    uint64
}

// thread is one task of a process. schedstat is kept open for the first ones.
type thread struct {
	tid       int
	schedstat file
	last      taskTimes
}

func (t thread) compare(tid int) int { return t.tid - tid }

type taskTimes struct{ run, wait, turns uint64 }

// openProcess opens the descriptors of a process and makes its first reading. It is an error when stat cannot be read
// or tells another start time than wanted (0: any).
func openProcess(pid int, start uint64, c *fdCounter, buf *buffers) (*process, error) {
	p := &process{pid: pid, dir: "/proc/" + strconv.Itoa(pid), stat: closed, statm: closed, io: closed, fds: closed, tasks: closed, fdCount: *c}
	var err error
	if p.stat, err = open(p.dir + "/stat"); err != nil {
		return nil, unseen(pid, err)
	}
	if p.readStat(buf); p.now.gone {
		p.close()
		return nil, fmt.Errorf("process %d: it is gone", pid)
	}
	if start != 0 && p.now.start != start {
		p.close()
		return nil, fmt.Errorf("process %d: began at tick %d, not at %d: another one has its number", pid, p.now.start, start)
	}
	// What the daemon may not read stays closed; the tree says so for the leader.
	p.statm, _ = open(p.dir + "/statm")
	p.io, _ = open(p.dir + "/io")
	p.fds, _ = c.open(p.dir + "/fd")
	p.tasks, _ = open(p.dir + "/task")
	p.readMemory(buf)
	p.readIO(buf)
	p.listThreads(buf, nil)
	p.last = p.now
	return p, nil
}

// unseen says why a process cannot be looked at.
func unseen(pid int, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("process %d: it is gone, or /proc hides it from this user (hidepid): %w", pid, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("process %d: no permission, /proc is for each user's own processes (hidepid): %w", pid, err)
	default:
		return fmt.Errorf("process %d: %w", pid, err)
	}
}

func (p *process) close() {
	for _, f := range []*file{&p.stat, &p.statm, &p.io, &p.fds, &p.tasks} {
		f.close()
	}
	for i := range p.threads {
		p.threads[i].schedstat.close()
	}
	p.threads = nil
}

// readStat reads stat into now. A process whose stat cannot be read or understood is gone.
func (p *process) readStat(buf *buffers) {
	b, err := p.stat.read(buf.b[:])
	if err != nil || !parseStat(b, &p.now.stat) {
		p.now = p.last
		p.now.gone = true
		return
	}
	p.now.gone = false
	p.now.dead = (p.now.state == 'Z' || p.now.state == 'X') && p.now.threads <= 1
}

// readMemory reads the memory of a process whose stat was just read.
func (p *process) readMemory(buf *buffers) {
	p.now.memOK = false
	if !p.now.dead {
		if b, err := p.statm.read(buf.b[:]); err == nil {
			p.now.rss, p.now.anon, p.now.memOK = parseStatm(b)
			p.now.memOK = p.now.memOK && p.now.rss > 0
		}
	}
}

// readIO reads the I/O of a process whose stat was just read.
func (p *process) readIO(buf *buffers) {
	p.now.ioOK = false
	if b, err := p.io.read(buf.b[:]); err == nil {
		v := [2]uint64{}
		p.now.ioOK = parseKeyed(b, ioKeys, v[:]) == len(ioKeys)
		p.now.read, p.now.written = v[0], v[1]
	}
	if !p.now.ioOK {
		p.now.read, p.now.written = p.last.read, p.last.written
	}
}

var ioKeys = []string{"read_bytes", "write_bytes"}

// usage of CPU by one process since the last tick, from its threads.
type threadDelta struct {
	run, wait, turns uint64 // ns, ns, times
	most             uint64 // run of the thread that ran most
	// exact: run covers all threads for the whole time, so it may stand in for the coarser ticks of stat.
	exact bool
}

// readThreads sums what the threads did since the last call. A thread that ended between two ticks loses what it did
// in the last of them; one that began counts from its birth.
func (p *process) readThreads(buf *buffers) threadDelta {
	var d threadDelta
	if p.now.dead || p.tasks == closed {
		p.listed = false
		return d
	}
	d.exact = p.listed
	ended := false
	for i := range p.threads {
		t := &p.threads[i]
		v, ok := t.read(p, buf)
		if !ok {
			ended = true
			continue
		}
		d.add(v, t.last)
		t.last = v
	}
	if ended || len(p.threads) != p.now.threads {
		d.exact = false
		p.listThreads(buf, &d)
	} else {
		p.listed = true
	}
	return d
}

func (d *threadDelta) add(now, last taskTimes) {
	run := less(now.run, last.run)
	d.run += run
	d.most = max(d.most, run)
	d.wait += less(now.wait, last.wait)
	d.turns += less(now.turns, last.turns)
}

func (t *thread) read(p *process, buf *buffers) (taskTimes, bool) {
	f := t.schedstat
	if f == closed {
		opened, err := open(p.dir + "/task/" + strconv.Itoa(t.tid) + "/schedstat")
		if err != nil {
			return taskTimes{}, false
		}
		defer opened.close()
		f = opened
	}
	b, err := f.read(buf.b[:])
	if err != nil {
		return taskTimes{}, false
	}
	return parseSchedstat(b)
}

// listThreads makes the list of threads anew. What threads that are new in it have done is added to d; with a nil d
// all of them begin at what they have.
func (p *process) listThreads(buf *buffers, d *threadDelta) {
	p.listed = false
	var err error
	if buf.tids, err = p.tasks.numbers(buf.tids[:0], buf.dir[:]); err != nil {
		return
	}
	slices.Sort(buf.tids)
	keep := p.threads[:0]
	for _, t := range p.threads {
		if _, is := slices.BinarySearch(buf.tids, t.tid); is {
			keep = append(keep, t)
		} else {
			t.schedstat.close()
		}
	}
	p.threads = keep
	known := len(keep)
	for _, tid := range buf.tids {
		if _, is := slices.BinarySearchFunc(p.threads[:known], tid, thread.compare); is {
			continue
		}
		t := thread{tid: tid, schedstat: closed}
		if len(p.threads) < keptThreads {
			t.schedstat, _ = open(p.dir + "/task/" + strconv.Itoa(tid) + "/schedstat")
		}
		v, ok := t.read(p, buf)
		if !ok {
			t.schedstat.close()
			continue
		}
		t.last = v
		if d != nil {
			d.add(v, taskTimes{})
		}
		p.threads = append(p.threads, t)
	}
	slices.SortFunc(p.threads, func(a, b thread) int { return a.compare(b.tid) })
	p.listed = len(p.threads) == p.now.threads
}

// fdCounter counts open descriptors: since Linux 6.2 the size of /proc/PID/fd is their number; before, the directory
// must be listed.
type fdCounter struct{ bySize bool }

func newFDCounter() fdCounter {
	var st unix.Stat_t
	return fdCounter{bySize: unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0}
}

func (c fdCounter) open(path string) (file, error) {
	if c.bySize {
		return openPath(path)
	}
	return open(path)
}

// count is NaN where it cannot be known.
func (c fdCounter) count(f file, buf *buffers) float64 {
	if f == closed {
		return math.NaN()
	}
	if c.bySize {
		n, err := f.size(&buf.st)
		if err != nil {
			return math.NaN()
		}
		return float64(n)
	}
	var err error
	if buf.tids, err = f.numbers(buf.tids[:0], buf.dir[:]); err != nil {
		return math.NaN()
	}
	return float64(len(buf.tids))
}
