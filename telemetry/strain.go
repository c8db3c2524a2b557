package telemetry

import (
	"fmt"
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
)

const (
	// mostStall is the share of time that tasks may stall on memory, and mostRefaults the share of the memory that may be
	// read back in an interval, before it counts as short.
	mostStall    = 0.01
	mostRefaults = 0.01
)

// strain tells whether memory is short where an instance lives: in its own control group, or else on the machine.
type strain struct {
	group    *group
	whole    uint64 // bytes of the machine's memory; 0 for a group
	at       time.Time
	refaults uint64
	stall    float64
}

func newStrain(s ft.Scope) *strain {
	g := &group{cpu: closed, cpuStall: closed, memory: closed, memoryStall: closed, used: closed}
	st := &strain{group: g}
	f, err := filesOf(s)
	if err == nil && f.memory != "" {
		g.memory, _ = open(f.memory)
	}
	if g.memory != closed {
		g.memoryKeys = f.refaults
		g.memoryStall, _ = open(f.memoryStall)
		return st
	}
	// Without any of these files the machine is taken to have memory enough.
	g.memory, _ = open("/proc/vmstat")
	g.memoryKeys = []string{"workingset_refault_anon", "workingset_refault_file", "workingset_refault"}
	g.memoryStall, _ = open("/proc/pressure/memory")
	if f, err := open("/proc/meminfo"); err == nil {
		v := [1]uint64{}
		if b, err := f.read(g.buf[:]); err == nil {
			parseKeyed(b, []string{"MemTotal"}, v[:])
		}
		st.whole = v[0] << 10
		f.close()
	}
	return st
}

// since says what went short since the last call, empty when nothing did. resident are the instance's bytes.
func (s *strain) since(now time.Time, resident uint64) (why string) {
	if !now.After(s.at) {
		return "" // at the end of an interval and again at the begin of the next
	}
	v, _ := s.group.keyed(s.group.memory, s.group.memoryKeys)
	refaults := max(v[0]+v[1], v[2])
	stall := s.group.stall(s.group.memoryStall)
	if span := now.Sub(s.at).Seconds(); !s.at.IsZero() {
		base, where := resident, "its control group"
		if s.whole != 0 {
			base, where = s.whole, "the machine"
		}
		back := float64(less(refaults, s.refaults)*pageSize) / float64(max(base, 1))
		stalled := (stall - s.stall) / span
		switch {
		case back > mostRefaults:
			why = fmt.Sprintf("memory of %s is short (more than %g %% of it was read back): left alone, for the kernel needs the referenced bits itself", where, mostRefaults*100)
		case !math.IsNaN(stalled) && stalled > mostStall:
			why = fmt.Sprintf("memory of %s is short (tasks stalled for more than %g %% of the time): left alone, for the kernel needs the referenced bits itself", where, mostStall*100)
		}
	}
	s.at, s.refaults, s.stall = now, refaults, stall
	return why
}

func (s *strain) close() { _ = s.group.Close() }
