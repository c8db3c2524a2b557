package telemetry

import (
	"maps"
	"os"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// Collector is one way of measuring, in words: for people who want to know what is collected and at what cost.
type Collector struct {
	Name       string
	Dimensions []ft.Dimension
	Sets       []ft.CategorySet
	Reads      string // where it gets its values from
	Cost       string
	Without    string // what Fettle does where it is not possible or off
}

// The collectors' names and what is done without them, the same for all who tell them.
const (
	byProcesses  = "processes (/proc)"
	byGroup      = "control group statistics"
	byPressure   = "pressure of an instance (PSI)"
	byWorkingSet = "working set"
	byWrites     = "share of pages written"
	byNetwork    = "network and calls to others (eBPF)"
	bySyscalls   = "system calls (eBPF)"
	byMetrics    = "application metrics"

	withoutProcesses  = "only what the router, control groups and the application itself tell"
	withoutGroup      = "anonymous memory from /proc, where pages that processes share count for each; refaults and throttling are not seen"
	withoutPressure   = "waiting for CPU is seen by run_queue, want of memory by faults_major and refaults"
	withoutWorkingSet = "memory is watched by size and faults alone: what of it is in use is not known"
	withoutWrites     = "reads and writes of memory are not told apart"
	withoutNetwork    = "bytes sent and received only, of instances with a network namespace of their own; a slow dependency looks like a slow instance, told apart by its peers"
	withoutSyscalls   = "what a program does in the kernel is seen by cpu_system and its effects"
	withoutMetrics    = "the application is judged from outside"
)

// Collectors are those of this package, in the order in which a pool's sampler asks them, with their dimensions at the
// shipped settings on a new kernel.
func Collectors() []Collector {
	var p ft.Pool
	p.Defaults()
	processes := slices.Clone(ProcFS().Dimensions())
	for i := range processes {
		processes[i].Every = 0 // descriptors are listed, more seldom, before Linux 6.2 only
	}
	groups := Cgroup().Dimensions()
	return []Collector{
		{
			Name: byNetwork, Dimensions: networkDimensions(false), Without: withoutNetwork,
			Reads: "the kernel's counts of each TCP connection, by an eBPF iterator; of calls to others and of UDP, counters of eBPF programs at messages",
			Cost:  "a look at all connections each frame; a short program at each message on the machine, but only while an instance calls others or has UDP sockets (make bench-telemetry)",
		},
		{
			Name: byGroup, Dimensions: groups[:colMemoryStall], Without: withoutGroup,
			Reads: "memory.stat and cpu.stat of the instance's own group, version 2 or 1",
			Cost:  "two files a frame, by kept descriptors; less of many instances",
		},
		{
			Name: byPressure, Dimensions: groups[colMemoryStall:], Without: withoutPressure,
			Reads: "memory.pressure and cpu.pressure of the instance's own group, version 2",
			Cost:  "two files a frame, by kept descriptors; less of many instances",
		},
		{
			Name: byProcesses, Dimensions: processes, Without: withoutProcesses,
			Reads: "stat, statm, io, fd and each thread's schedstat of every process of the instance",
			Cost:  "some files a process and one a thread each frame, by kept descriptors, without allocation (make bench-telemetry); less of many instances",
		},
		{
			Name: byWorkingSet, Dimensions: WorkingSet(p.Telemetry.WorkingSet).Dimensions(), Without: withoutWorkingSet,
			Reads: "Referenced of smaps_rollup, after clear_refs; soft-dirty bits of pagemap for write_share",
			Cost:  "within telemetry.workingSet.budget of the time, what the application is delayed by included; the interval stretches to keep it, and all instances of a pool together take at most a hundredth of a core",
		},
		{
			Name: byMetrics, Without: withoutMetrics,
			Reads: "the series that metrics: of the pool chooses, from the application's Prometheus endpoint",
			Cost:  "one request an interval and instance to the application, without a kept connection; only lines of the chosen metrics are parsed",
		},
		{
			Name: bySyscalls, Without: withoutSyscalls,
			Sets:  []ft.CategorySet{callSet(p.Telemetry.Syscalls)},
			Reads: "an eBPF program at the entry of all system calls, in bursts of telemetry.syscalls.burst",
			Cost:  "each system call on the machine takes a little longer while a burst runs; bursts are so far apart that a program which does nothing else loses telemetry.syscalls.budget of its speed. Off by default",
		},
	}
}

// NetworkNames are the dimensions of [Probes.Network].
func NetworkNames() []string {
	var out []string
	for _, d := range networkDimensions(false) {
		out = append(out, d.Name)
	}
	return out
}

// Fact says whether one collector works on this machine.
type Fact struct {
	Name      string
	Available bool
	Detail    string
	Without   string
}

// Facts finds out by trying, on this very process and on an empty control group such as instances get, what can be
// measured here. The reasons are those that [Sampler.Unavailable] gives for an instance in the same position. Without a
// group, nothing is said of control groups; p are probes that [OpenProbes] gave, with or without an error.
func Facts(group *ft.Scope, p *Probes) []Fact {
	self := ft.Instance{Ref: ft.Ref{ID: "self"}, Scope: ft.Scope{PID: os.Getpid()}}
	processes := ProcFS()
	out := []Fact{fact(byProcesses, withoutProcesses, "CPU, memory, faults, threads, descriptors and storage I/O of whole process trees",
		len(processes.Dimensions()), try(processes, self))}
	if group != nil {
		out = append(out, groupFacts(*group)...)
	}
	return append(out,
		simple(byWorkingSet, withoutWorkingSet, "pages referenced, growth and turnover, by /proc/PID/clear_refs and smaps_rollup", errText(WorkingSetError())),
		simple(byWrites, withoutWrites, "by soft-dirty bits; off unless telemetry.workingSet.writes is set", whyNoWrites()),
		p.fact(),
		simple(bySyscalls, withoutSyscalls, "counted in bursts; off unless telemetry.syscalls.collect is on", p.noCalls()),
		simple(byMetrics, withoutMetrics, "scraped from the endpoint that metrics: of a pool names; explain says which series an instance lacks", ""),
	)
}

// fact is that of the network.
func (p *Probes) fact() Fact {
	const detail = "bytes, messages, connections, retransmits and calls to others of whole process trees"
	dims := networkDimensions(false)
	missing := ft.Unavailable{}
	if why := p.usable(); why != "" {
		for _, d := range dims {
			missing[d.Name] = why
		}
	}
	return fact(byNetwork, withoutNetwork, detail, len(dims), missing)
}

func groupFacts(group ft.Scope) []Fact {
	missing := try(Cgroup(), ft.Instance{Ref: ft.Ref{ID: "self"}, Scope: group})
	stalls := []string{ft.DimPressMem, ft.DimPressCPU}
	pressure := ft.Unavailable{}
	for _, d := range stalls {
		if why, is := missing[d]; is {
			pressure[d] = why
			delete(missing, d)
		}
	}
	return []Fact{
		fact(byGroup, withoutGroup, "memory without double counting, refaults and throttling of each instance", groupColumns-len(stalls), missing),
		fact(byPressure, withoutPressure, "time that each instance stalls for want of memory and CPU", len(stalls), pressure),
	}
}

// try attaches a source to an instance and lets go of it. It gives what the source cannot tell of it.
func try(s ft.Source, in ft.Instance) ft.Unavailable {
	r, missing, err := s.Attach(in)
	if err == nil {
		err = r.Close()
	}
	all := maps.Clone(missing)
	if all == nil {
		all = ft.Unavailable{}
	}
	if err != nil {
		for _, d := range s.Dimensions() {
			all[d.Name] = reason(err)
		}
	}
	return all
}

// fact is available where something of it is; what is missing is told in any case.
func fact(name, without, detail string, of int, missing ft.Unavailable) Fact {
	f := Fact{Name: name, Without: without, Available: len(missing) < of, Detail: detail}
	var parts []string
	for _, g := range missing.ByReason() {
		part := g.Why
		if f.Available {
			part = "not " + strings.Join(g.Dimensions, ", ") + ": " + g.Why
		}
		parts = append(parts, part)
	}
	if f.Available {
		parts = append([]string{detail}, parts...)
	}
	if len(parts) > 0 {
		f.Detail = strings.Join(parts, "; ")
	}
	return f
}

func simple(name, without, detail, why string) Fact {
	if why != "" {
		return Fact{Name: name, Detail: why, Without: without}
	}
	return Fact{Name: name, Available: true, Detail: detail}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimSuffix(err.Error(), ": "+ft.ErrUnavailable.Error())
}
