package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// procfs is the source over /proc.
type procfs struct {
	census  *census
	fdCount fdCounter
	dims    []ft.Dimension
	noTimes string // why schedstat tells nothing; empty where it does
}

// ProcFS is the source that measures an instance's processes by /proc: its leader, what descends from it, what belongs
// to the leader's session, and what is in the instance's own control group or below it. What leads another instance of
// the source, or is in another one's own control group, is that one's with all that descends from it. Readings are sums over
// them, and what ended processes used stays in the sums.
//
// Resident memory counts a page shared by two of its processes twice; [Cgroup] does not. Read and written bytes are
// those of the storage layer (read_bytes and write_bytes of /proc/PID/io). CPU time is exact to the scheduler's last
// update while an instance's threads stay the same, else to a clock tick of 10 ms, as user and system time always are.
// The busiest thread is that of all processes: one that spins is seen beside many that idle.
//
// One source serves any number of samplers at once: they share the look for new processes.
func ProcFS() ft.Source {
	s := &procfs{census: &census{load: closed, proc: closed}, fdCount: newFDCounter()}
	fds := column(ft.DimFDs, "", ft.Log1p, ft.Gauge)
	fds.Unbounded = true
	if !s.fdCount.bySize {
		fds.Every = 10 * time.Second // a directory with a descriptor a line must be listed
	}
	s.dims = []ft.Dimension{
		colCPU:       ticking(column(ft.DimCPU, "cores", ft.Log1p, ft.Counter)),
		colUser:      ticking(column(ft.DimCPUUser, "cores", ft.Log1p, ft.Counter)),
		colSystem:    ticking(column(ft.DimCPUSys, "cores", ft.Log1p, ft.Counter)),
		colWait:      column(ft.DimRunQueue, "s/s", ft.Log1p, ft.Counter),
		colSwitches:  column(ft.DimSwitches, "1/s", ft.Log1p, ft.Counter),
		colRSS:       memory(ft.DimRSS),
		colAnon:      memory(ft.DimAnon),
		colMinor:     column(ft.DimMinor, "1/s", ft.Log1p, ft.Counter),
		colMajor:     column(ft.DimMajor, "1/s", ft.Log1p, ft.Counter),
		colRead:      column(ft.DimRead, "B/s", ft.Log1p, ft.Counter),
		colWritten:   column(ft.DimWritten, "B/s", ft.Log1p, ft.Counter),
		colThreads:   column(ft.DimThreads, "", ft.Log1p, ft.Gauge),
		colFDs:       fds,
		colTopThread: ticking(column(ft.DimTopTask, "cores", ft.Log1p, ft.Gauge)),
	}
	s.dims[colThreads].Unbounded = true
	s.noTimes = whyNoTimes()
	return s
}

var errNoProcess = fmt.Errorf("the instance has no process: %w", ft.ErrUnavailable)

func column(name, unit string, t ft.Transform, k ft.Kind) ft.Dimension {
	return ft.Dimension{Name: name, Unit: unit, Role: ft.Response, Transform: t, Kind: k}
}

// ticking is what is counted in clock ticks: one a second is the least that matters.
func ticking(d ft.Dimension) ft.Dimension {
	d.Floor = 1. / clockTick
	return d
}

// memory changes by whole pages and allocator arenas: less than half a percent says nothing.
func memory(name string) ft.Dimension {
	d := column(name, "B", ft.Log1p, ft.Gauge)
	d.Unbounded, d.Floor = true, 0.005
	return d
}

// whyNoTimes looks at the calling process, which ran and so has times where the kernel keeps them.
func whyNoTimes() string {
	f, err := open("/proc/self/schedstat")
	if err != nil {
		return "the kernel keeps no scheduling times (CONFIG_SCHED_INFO)"
	}
	defer f.close()
	var buf [128]byte
	b, err := f.read(buf[:])
	if t, ok := parseSchedstat(b); err != nil || !ok || t.run == 0 {
		return "the kernel keeps no scheduling times (CONFIG_SCHED_INFO)"
	}
	return ""
}

func (s *procfs) Dimensions() []ft.Dimension { return s.dims }

func (s *procfs) Categories() []ft.CategorySet { return nil }

func (s *procfs) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	if in.Scope.PID <= 0 {
		return nil, nil, fmt.Errorf("measure %s by /proc: %w", in.Ref, errNoProcess)
	}
	t := &tree{census: s.census, fdCount: s.fdCount, fdsEvery: s.dims[colFDs].Every}
	t.found = t.consider
	leader, err := openProcess(in.Scope.PID, in.Scope.StartTime, &t.fdCount, &t.buf)
	if err != nil {
		return nil, nil, fmt.Errorf("measure %s by /proc: %w", in.Ref, err)
	}
	if err := s.census.join(); err != nil {
		leader.close()
		return nil, nil, fmt.Errorf("measure %s by /proc: %w", in.Ref, err)
	}
	t.claim = s.census.claim(lead{leader.pid, leader.now.start}, leader.now.session, in.Scope)
	t.members, t.readAt = append(t.members, leader), time.Now()
	t.dims, t.hasIO = s.dims, leader.now.ioOK
	return t, s.missing(leader), nil
}

// missing says what of the leader cannot be read. A member that may not be read is left out of the sum.
func (s *procfs) missing(p *process) ft.Unavailable {
	u := ft.Unavailable{}
	why := func(name string) string {
		f, err := open(procPath(p.pid, name))
		f.close()
		if errors.Is(err, fs.ErrPermission) {
			return "no permission to read /proc/PID/" + name + " of that user's processes"
		}
		return "cannot read /proc/PID/" + name
	}
	if p.statm == closed {
		u[ft.DimRSS], u[ft.DimAnon] = why("statm"), why("statm")
	}
	if !p.now.ioOK {
		u[ft.DimRead], u[ft.DimWritten] = why("io"), why("io")
	}
	if p.fds == closed {
		u[ft.DimFDs] = why("fd")
	}
	if s.noTimes != "" {
		u[ft.DimRunQueue], u[ft.DimSwitches], u[ft.DimTopTask] = s.noTimes, s.noTimes, s.noTimes
	}
	return u
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
