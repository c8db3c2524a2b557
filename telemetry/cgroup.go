package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync/atomic"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// The columns of cgroup readers, in the order of its dimensions.
const (
	colGroupAnon = iota
	colRefaults
	colThrottled
	colMemoryStall
	colCPUStall
	groupColumns
)

type cgroups struct{ dims []ft.Dimension }

// Cgroup is the source that measures an instance by its own control group, version 2 where the scope names one, else
// version 1: anonymous memory, refaults (pages that were evicted from memory and needed again), the share of the
// bandwidth periods in which the group was throttled, and, in version 2, the shares of time in which some task stalled
// for want of memory or CPU. It counts shared pages once, so give it to [New] before [ProcFS].
func Cgroup() ft.Source {
	return cgroups{dims: []ft.Dimension{
		colGroupAnon:   memory(ft.DimAnon),
		colRefaults:    column(ft.DimRefaults, "1/s", ft.Log1p, ft.Counter),
		colThrottled:   column(ft.DimThrottle, "share", ft.Logit, ft.Gauge),
		colMemoryStall: column(ft.DimPressMem, "share", ft.Logit, ft.Counter),
		colCPUStall:    column(ft.DimPressCPU, "share", ft.Logit, ft.Counter),
	}}
}

func (c cgroups) Dimensions() []ft.Dimension { return c.dims }

func (c cgroups) Categories() []ft.CategorySet { return nil }

// groupFiles are where a version keeps what, and under which keys.
type groupFiles struct {
	cpu, memory       string // stat files
	used              string
	cpuStall          string
	memoryStall       string
	anon              string
	refaults          []string
	periods, withheld string
}

func (c cgroups) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	files, err := filesOf(in.Scope)
	if err != nil {
		return nil, nil, fmt.Errorf("measure %s by its cgroup: %w", in.Ref, err)
	}
	g := &group{dims: c.dims, cpu: closed, memory: closed, cpuStall: closed, memoryStall: closed, used: closed}
	g.memoryKeys = append([]string{files.anon}, files.refaults...)
	g.cpuKeys = []string{files.periods, files.withheld}
	u := ft.Unavailable{}
	g.memory = attach(u, files.memory, "memory", ft.DimAnon, ft.DimRefaults)
	g.cpu = attach(u, files.cpu, "CPU", ft.DimThrottle)
	g.memoryStall = attach(u, files.memoryStall, "pressure", ft.DimPressMem)
	g.cpuStall = attach(u, files.cpuStall, "pressure", ft.DimPressCPU)
	if g.memory != closed {
		g.used, _ = open(files.used) // without it memory.stat is read each time
	}
	g.probe(u)
	if len(u) == groupColumns {
		_ = g.Close()
		return nil, nil, fmt.Errorf("measure %s by its cgroup: %w", in.Ref, fmt.Errorf("%s: %w", u[ft.DimAnon], ft.ErrUnavailable))
	}
	return g, u, nil
}

// filesOf names the files of an instance. A controller is bound to one of the two hierarchies: where the instance has a
// v1 group of it, that one counts, also on a hybrid machine whose v2 group only tells pressure.
func filesOf(s ft.Scope) (groupFiles, error) {
	f := groupFiles{
		anon: "anon", refaults: []string{"workingset_refault_anon", "workingset_refault_file", "workingset_refault"},
		periods: "nr_periods", withheld: "nr_throttled",
	}
	if dir := s.CgroupV2; dir != "" {
		f.cpu, f.memory, f.used = dir+"/cpu.stat", dir+"/memory.stat", dir+"/memory.current"
		f.cpuStall, f.memoryStall = dir+"/cpu.pressure", dir+"/memory.pressure"
	}
	if dir := s.CgroupV1["memory"]; dir != "" {
		f.memory, f.used, f.anon = dir+"/memory.stat", dir+"/memory.usage_in_bytes", "total_rss"
		f.refaults = []string{"total_workingset_refault_anon", "total_workingset_refault_file", "total_workingset_refault"}
	}
	if dir := s.CgroupV1["cpu"]; dir != "" {
		f.cpu = dir + "/cpu.stat"
	}
	if f.memory == "" && f.cpu == "" {
		return f, fmt.Errorf("the instance has no control group of its own: %w", ft.ErrUnavailable)
	}
	return f, nil
}

// attach opens a file for the named dimensions, or says why they are not available.
func attach(u ft.Unavailable, path, what string, dims ...string) file {
	why := ""
	f := closed
	switch {
	case path == "" && what == "pressure":
		why = "cgroup v1 keeps no pressure of a group"
	case path == "":
		why = "the instance is in no " + what + " cgroup of its own"
	default:
		var err error
		f, err = open(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			why = "no " + path + ": the " + what + " controller is not on in this cgroup"
		case err != nil:
			why = err.Error()
		}
	}
	if why != "" {
		for _, d := range dims {
			u[d] = why
		}
	}
	return f
}

// group reads one control group.
type group struct {
	cpu, memory, cpuStall, memoryStall file
	used                               file // one number, all that is charged to the group
	cpuKeys, memoryKeys                []string

	gone atomic.Bool // no file of it can be read any more
	dims []ft.Dimension

	periods, withheld uint64 // at the last read
	began             bool
	anon, charge      float64 // bytes at the last read of memory.stat, and all that was charged then: 0 where that is not known
	buf               [8192]byte
	values            [4]uint64
}

// probe finds out which keys the files have.
func (g *group) probe(u ft.Unavailable) {
	if g.memory != closed {
		switch _, n := g.keyed(g.memory, g.memoryKeys); n {
		case 0:
			u[ft.DimAnon] = "its memory.stat has no " + g.memoryKeys[0]
			u[ft.DimRefaults] = "its memory.stat has no workingset_refault"
		case 1:
			u[ft.DimRefaults] = "this kernel counts no refaults of a cgroup"
		}
	}
	if g.cpu != closed {
		if _, n := g.keyed(g.cpu, g.cpuKeys); n != len(g.cpuKeys) {
			u[ft.DimThrottle] = "its cpu.stat has no nr_throttled: the CPU controller is not on in this cgroup"
		}
	}
	for dim, f := range map[string]file{ft.DimPressMem: g.memoryStall, ft.DimPressCPU: g.cpuStall} {
		if f != closed && math.IsNaN(g.stall(f)) {
			u[dim] = "the kernel does not account for pressure (psi=0 or cgroup.pressure is off)"
		}
	}
}

func (g *group) keyed(f file, keys []string) (v []uint64, found int) {
	v = g.values[:len(keys)]
	clear(v)
	if b, err := f.read(g.buf[:]); err == nil {
		found = parseKeyed(b, keys, v)
	}
	return v, found
}

// stall is the time in seconds that some task of the group stalled so far.
func (g *group) stall(f file) float64 {
	b, err := f.read(g.buf[:])
	total, ok := parsePressure(b)
	if err != nil || !ok {
		return math.NaN()
	}
	return float64(total) / 1e6
}

// stillness is by which part of itself the memory charged to a group may have changed for what is anonymous of it to be
// taken as unchanged: half of what matters of a dimension of memory.
const stillness = 1. / 400

// Dear implements [Thrifty]: the kernel sums up dozens of numbers over all processors for memory.stat, and brings
// averages up to date for pressures.
func (g *group) Dear() ft.Dims {
	return ft.Dims(0).With(colRefaults).With(colThrottled).With(colMemoryStall).With(colCPUStall)
}

// ReadLess implements [Thrifty]. Anonymous memory stays what it was while the memory charged to the group hardly
// changes; else memory.stat is read.
func (g *group) ReadLess(_ time.Time, row []float64, _ []uint64) error {
	fill(row, math.NaN())
	if g.memory == closed {
		return nil
	}
	if charge := g.charged(); charge == 0 || g.charge == 0 || math.Abs(charge-g.charge) > stillness*g.charge {
		g.readMemory(row, charge)
	} else {
		row[colGroupAnon] = g.anon
	}
	return nil
}

// charged is all memory that is charged to the group, in bytes; 0 where that cannot be read.
func (g *group) charged() float64 {
	b, err := g.used.read(g.buf[:])
	if v, _, ok := digits(b, 0); ok && err == nil {
		return float64(v)
	}
	return 0
}

// readMemory tells whether there was something to read.
func (g *group) readMemory(row []float64, charge float64) bool {
	v, n := g.keyed(g.memory, g.memoryKeys)
	if n == 0 {
		g.charge = 0
		return false
	}
	g.anon, g.charge = float64(v[0]), charge
	row[colGroupAnon] = g.anon
	row[colRefaults] = float64(v[1] + v[2])
	if v[1]+v[2] == 0 {
		row[colRefaults] = float64(v[3]) // before Linux 5.9 one key for both kinds
	}
	return true
}

// Read implements [ft.Reader]. A group that is gone reads as NaN.
func (g *group) Read(_ time.Time, row []float64, _ []uint64) error {
	fill(row, math.NaN())
	alive := g.readMemory(row, g.charged())
	if v, n := g.keyed(g.cpu, g.cpuKeys); n == len(g.cpuKeys) {
		alive = true
		row[colThrottled] = g.throttled(v[0], v[1])
	}
	row[colMemoryStall] = g.stall(g.memoryStall)
	row[colCPUStall] = g.stall(g.cpuStall)
	alive = alive || !math.IsNaN(row[colMemoryStall]) || !math.IsNaN(row[colCPUStall])
	g.gone.Store(!alive)
	return nil
}

// Missing implements [Reporter].
func (g *group) Missing() ft.Unavailable {
	if !g.gone.Load() {
		return nil
	}
	u := ft.Unavailable{}
	for _, d := range g.dims {
		u[d.Name] = "its control group is gone"
	}
	return u
}

// throttled is the share of the bandwidth periods since the last read in which the group was; 0 when it ran in none or
// has no quota.
func (g *group) throttled(periods, withheld uint64) float64 {
	ran, was := less(periods, g.periods), less(withheld, g.withheld)
	first := !g.began
	g.periods, g.withheld, g.began = periods, withheld, true
	switch {
	case first:
		return math.NaN()
	case ran == 0:
		return 0
	default:
		return min(float64(was)/float64(ran), 1)
	}
}

// Close implements [ft.Reader].
func (g *group) Close() error {
	for _, f := range []*file{&g.cpu, &g.memory, &g.cpuStall, &g.memoryStall, &g.used} {
		f.close()
	}
	return nil
}
