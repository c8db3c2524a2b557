package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// The columns of working set readers, in the order of its dimensions.
const (
	colSet = iota
	colGrowth
	colTurnover
	colWrites
	setColumns
)

// poolShare is the most of one core that measuring all instances of a source together may use.
const poolShare = 0.01

// workingSets is the source that clears referenced bits.
type workingSets struct {
	config   ft.WorkingSet
	dims     []ft.Dimension
	census   *census
	rounds   rounds
	noWrites string // why write shares are not measured; empty where they are
	prices   func() prices

	level uint // intervals are at least config.Every << level; of the rounds' goroutine
}

// WorkingSet is the source that measures how an instance's processes access their memory:
//
//   - the working set: the bytes of pages that were referenced within an interval;
//   - its growth since the interval before, in bytes a second (below 0 when it shrank);
//   - its turnover: the share of the working set of half an interval that was not in the one of the half before;
//   - the share of the working set that was written to, with c.Writes and where the kernel marks written pages.
//
// The referenced bits of all pages are cleared at the begin of an interval (/proc/PID/clear_refs), and the referenced
// pages counted in the middle and at the end (Referenced of /proc/PID/smaps_rollup). In the middle nothing is cleared: with
// a the bytes referenced in the first half and b those in both, b-a were referenced in the second half only, and the
// turnover is (b-a)/max(a, b-a); shares are of 1 MiB at least. It takes the working sets of both halves to be of one size; where the set changes its
// size, the growth tells it. A page that several of its processes reference counts once for each, and a
// huge page counts whole.
//
// # Cost
//
// Work is done on a goroutine of the source's own, for one instance at a time and their intervals spread, and never holds
// up a sample. What one interval costs is counted as
//
//   - the CPU time that it took us;
//   - the time that the kernel held the address space for our calls: the application's page faults, mmap and munmap may
//     have to wait for so long;
//   - for each referenced page the time that the processor takes to set its bit again, and with c.Writes for each
//     written page that of a page fault. Both are measured once, on a mapping of our own.
//
// An interval is c.Every, doubled as often as it takes for the cost to be within c.Budget of it, so that its length, on
// which the working set depends, seldom changes. All instances of the source together use at most one hundredth of a core.
//
// # Left alone
//
// Instances above c.MaxSize; those whose control group (or, without one, whose machine) is short of memory, since there the
// kernel itself needs the bits to tell what to evict; those whose bits something else clears too, which is noticed when fewer
// pages are referenced at the end of an interval than in its middle. The reason is then in [Sampler.Unavailable].
// Another program that clears the bits in the first half of an interval cannot be noticed: do not run two that do.
//
// A processor that keeps translations cached for long (TLB) sets the bit of a page only when it next walks the page
// tables: what is used all the time by a process that is never switched out may be missed in a short interval.
func WorkingSet(c ft.WorkingSet) ft.Source {
	names := []string{colSet: ft.DimWSS, colGrowth: ft.DimWSSGrow, colTurnover: ft.DimWSSTurn, colWrites: ft.DimWrites}
	if c.Collect == ft.Off {
		return Absent("off: telemetry.workingSet.collect", names...)
	}
	w := &workingSets{config: c, census: &census{load: closed, proc: closed}, rounds: rounds{spread: c.Every.D(), timed: true}}
	w.dims = []ft.Dimension{
		colSet:      memory(ft.DimWSS),
		colGrowth:   column(ft.DimWSSGrow, "B/s", ft.Log1p, ft.Gauge),
		colTurnover: column(ft.DimWSSTurn, "share", ft.Logit, ft.Gauge),
		colWrites:   column(ft.DimWrites, "share", ft.Logit, ft.Gauge),
	}
	for i := range w.dims {
		w.dims[i].Every = c.Every.D()
	}
	if w.noWrites = whyNoWrites(); !c.Writes {
		w.noWrites = off("telemetry.workingSet.writes", w.noWrites)
	}
	w.prices = sync.OnceValue(func() prices { return measurePrices(w.noWrites == "") })
	return w
}

// off is why what is turned off is not measured, with what else would be in the way.
func off(setting, why string) string {
	if why == "" {
		return "off: " + setting
	}
	return "off: " + setting + "; it could not be measured here: " + why
}

// WorkingSetError tells why the working set of no process can be measured here, nil when it can. It tries on this
// process, without clearing anything.
func WorkingSetError() error {
	self := relative{dir: closed}
	var err error
	if self.dir, err = openPath("/proc/self"); err != nil {
		return err
	}
	defer self.dir.close()
	return self.allows()
}

func (w *workingSets) Dimensions() []ft.Dimension { return w.dims }

func (w *workingSets) Categories() []ft.CategorySet { return nil }

// Attach takes a place in the rounds.
func (w *workingSets) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	if in.Scope.PID <= 0 {
		return nil, nil, fmt.Errorf("measure the working set of %s: %w", in.Ref, errNoProcess)
	}
	k, err := newKin(w.census, in)
	if err != nil {
		return nil, nil, fmt.Errorf("measure the working set of %s: %w", in.Ref, err)
	}
	if err := k.members[0].allows(); err != nil {
		k.close()
		return nil, nil, fmt.Errorf("measure the working set of %s: %w", in.Ref, err)
	}
	u := ft.Unavailable{}
	if w.noWrites != "" {
		u[ft.DimWrites] = w.noWrites
	}
	s := &subject{source: w, kin: k, strain: newStrain(in.Scope), interval: w.config.Every.D()}
	s.strain.since(time.Now(), 0)
	return &setReader{subject: s, seat: w.rounds.join(s), rounds: &w.rounds}, u, nil
}

// allows tells why the process cannot be measured.
func (r *relative) allows() error {
	for _, f := range []struct {
		name  string
		flags int
		since string
	}{{"smaps_rollup", unix.O_RDONLY, "Linux 4.14"}, {"clear_refs", unix.O_WRONLY, "CONFIG_PROC_PAGE_MONITOR"}} {
		file, err := r.open(f.name, f.flags)
		file.close()
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("no permission for /proc/PID/%s of that user's processes: %w", f.name, ft.ErrUnavailable)
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("this kernel has no /proc/PID/%s (%s), or the process is gone: %w", f.name, f.since, err)
		default:
			return err
		}
	}
	return nil
}

// setReader hands over what the rounds measured.
type setReader struct {
	*subject
	seat   *seat
	rounds *rounds
}

// Read implements [ft.Reader]: each reading is handed over once.
func (r *setReader) Read(_ time.Time, row []float64, _ []uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fresh {
		fill(row, math.NaN())
		return nil
	}
	copy(row, r.row[:])
	r.fresh = false
	return nil
}

// Missing implements [Reporter].
func (r *setReader) Missing() ft.Unavailable {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == "" {
		return nil
	}
	u := ft.Unavailable{}
	for _, d := range r.source.dims {
		u[d.Name] = r.why
	}
	return u
}

// Pace implements [Pacer].
func (r *setReader) Pace() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pace
}

// Close implements [ft.Reader].
func (r *setReader) Close() error {
	r.rounds.leave(r.seat)
	return nil
}

// adjust sets the level so that all instances together stay within poolShare of a core. Those not measured yet are
// taken to be like the others.
func (w *workingSets) adjust() {
	load := func(level uint) float64 {
		sum, known, all := 0.0, 0, 0
		w.rounds.each(func(t taker) {
			s := t.(*subject)
			all++
			if s.own > 0 {
				known++
				sum += s.own / (w.config.Every.D() << max(level, s.level)).Seconds()
			}
		})
		return sum * float64(all) / float64(max(known, 1))
	}
	switch {
	case load(w.level) > poolShare && w.level < mostLevel:
		w.level++
	case w.level > 0 && load(w.level-1) < poolShare/2:
		w.level--
	}
}

// mostLevel bounds how often an interval is doubled: half a minute to a day and a half.
const mostLevel = 12
