// Package telemetry measures instances: the [Sampler] attaches sources to the instances of a pool, turns cumulative
// counters into rates, and fills one frame a tick. [ProcFS] measures an instance's whole process tree by /proc,
// [Cgroup] its control group, version 2 or 1; the router and drivers are further sources.
//
// All readings come from descriptors that are kept open (pread at offset 0), by parsers that allocate nothing: see
// proc(5) and Documentation/admin-guide/cgroup-v2.rst of the kernel for the formats. A kept descriptor under
// /proc/PID belongs to the process and not to the number, so a reused number is never read by mistake.
//
// What cannot be measured is absent from the frame's Have mask, and [Sampler.Unavailable] says why. What could not be
// read this time is NaN. A counter that ran backwards, a row that was not read for long, an instance seen for the
// first time: NaN, never a made-up rate.
//
//go:generate go run ../internal/dimensions .. ../docs/telemetry.md
package telemetry
