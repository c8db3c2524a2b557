package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// programs are eBPF programs whose run time is counted. A nil one counts nothing.
type programs struct {
	stats    io.Closer
	known    map[ebpf.ProgramID]bool // before
	programs []*ebpf.Program
}

// loaded begins to count the run time of all eBPF programs, and notes which there are already.
func loaded() (*programs, error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("count the run time of eBPF programs: %w", err)
	}
	p := &programs{stats: stats, known: map[ebpf.ProgramID]bool{}}
	err = eachProgram(func(id ebpf.ProgramID) { p.known[id] = true })
	if err != nil {
		return nil, errors.Join(err, stats.Close())
	}
	return p, nil
}

func eachProgram(f func(ebpf.ProgramID)) error {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list eBPF programs: %w", err)
		}
		id = next
		f(id)
	}
}

// since takes the programs that were loaded since then: those of this program, unless another loads some just now.
func (p *programs) since() *programs {
	if p == nil {
		return nil
	}
	_ = eachProgram(func(id ebpf.ProgramID) { // what cannot be listed is not counted
		if p.known[id] {
			return
		}
		if prog, err := ebpf.NewProgramFromID(id); err == nil {
			p.programs = append(p.programs, prog)
		}
	})
	return p
}

// runTime is how long they ran so far.
func (p *programs) runTime() (sum time.Duration) {
	if p == nil {
		return 0
	}
	for _, prog := range p.programs {
		if stats, err := prog.Stats(); err == nil {
			sum += stats.Runtime
		}
	}
	return sum
}

func (p *programs) close() {
	if p == nil {
		return
	}
	for _, prog := range p.programs {
		_ = prog.Close() // it was only read
	}
	_ = p.stats.Close() // a descriptor
}
