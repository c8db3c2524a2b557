// Package procfs identifies and follows processes: a number of a process passes to another one after its end, so that a
// process is named by number, start time and boot, and followed by a descriptor (pidfd_open(2)) that stays its own.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Stat is what is needed of /proc/PID/stat (proc_pid_stat(5)).
type Stat struct {
	PID, Parent, Group, Session int
	State                       byte
	// Kernel: it is a thread of the kernel (PF_KTHREAD), not a program.
	Kernel bool
	// Start is when it began, in clock ticks since boot.
	Start uint64
	// Status is that of one that has ended, in the form of wait(2); 0 also where it may not be seen.
	Status int
}

// Dead tells whether it has ended and was not waited for yet.
func (s Stat) Dead() bool { return s.State == 'Z' || s.State == 'X' || s.State == 'x' }

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

// ReadStat reads that of a process, or of a thread.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile(Path(pid, "stat"))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(b)
}

// Path is that of a file below /proc/PID.
func Path(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

var errStat = errors.New("not a line of /proc/PID/stat")

// ParseStat takes the command's name, which may hold anything, as what stands between the first ( and the last ).
func ParseStat(b []byte) (Stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return Stat{}, errStat
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return Stat{}, errStat
	}
	s := Stat{State: f[0][0]}
	var err error
	for _, n := range []struct {
		to   *int
		text string
	}{{&s.PID, string(bytes.TrimSpace(b[:open]))}, {&s.Parent, f[1]}, {&s.Group, f[2]}, {&s.Session, f[3]}} {
		if *n.to, err = strconv.Atoi(n.text); err != nil {
			return Stat{}, fmt.Errorf("%w: %w", errStat, err)
		}
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("%w: %w", errStat, err)
	}
	s.Kernel = flags&kernelThread != 0
	if s.Start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return Stat{}, fmt.Errorf("%w: %w", errStat, err)
	}
	if len(f) >= 50 && s.Dead() {
		if s.Status, err = strconv.Atoi(f[49]); err != nil {
			return Stat{}, fmt.Errorf("%w: %w", errStat, err)
		}
	}
	return s, nil
}

// BootID changes whenever the machine starts.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// List appends the numbers of all processes. What could be read is used.
func List(dst []int) []int {
	d, err := os.Open("/proc")
	if err != nil {
		return dst
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1) // what could be read is used
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			dst = append(dst, pid)
		}
	}
	return dst
}
