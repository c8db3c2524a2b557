package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procStat is what is needed of /proc/PID/stat (proc_pid_stat(5)).
type procStat struct {
	pid, ppid, pgrp, session int
	state                    byte
	start                    uint64 // clock ticks since boot
	status                   int    // as of wait(2), of one that has ended; 0 also where it may not be seen
}

func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

var errStat = errors.New("not a line of /proc/PID/stat")

// parseStat takes the command's name, which may hold anything, as what stands between the first ( and the last ).
func parseStat(b []byte) (procStat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return procStat{}, errStat
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return procStat{}, errStat
	}
	s := procStat{state: f[0][0]}
	var err error
	for _, n := range []struct {
		to   *int
		text string
	}{{&s.pid, string(bytes.TrimSpace(b[:open]))}, {&s.ppid, f[1]}, {&s.pgrp, f[2]}, {&s.session, f[3]}} {
		if *n.to, err = strconv.Atoi(n.text); err != nil {
			return procStat{}, fmt.Errorf("%w: %w", errStat, err)
		}
	}
	if s.start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return procStat{}, fmt.Errorf("%w: %w", errStat, err)
	}
	if len(f) >= 50 && s.dead() {
		if s.status, err = strconv.Atoi(f[49]); err != nil {
			return procStat{}, fmt.Errorf("%w: %w", errStat, err)
		}
	}
	return s, nil
}

// maySee tells whether this process sees the status of that one in /proc: the same user's, or any with CAP_SYS_PTRACE.
func maySee(pid int) bool {
	if c, err := capabilities(); err == nil && c.effective(unix.CAP_SYS_PTRACE) {
		return true
	}
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && int(st.Uid) == os.Geteuid()
}

// bootID changes whenever the machine starts.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// self is the identity of the calling process.
func self(token string) (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	s, err := readStat(os.Getpid())
	if err != nil {
		return identity{}, err
	}
	return identity{Token: token, PID: s.pid, StartTime: s.start, BootID: boot}, nil
}

// pids lists all processes.
func pids() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = d.Close() }()
	names, _ := d.Readdirnames(-1) // what could be read is used
	var ps []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			ps = append(ps, pid)
		}
	}
	return ps
}

// hasEnv tells whether the process was started with exactly this variable.
func hasEnv(pid int, entry string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	return bytes.HasPrefix(b, []byte(entry+"\x00")) || bytes.Contains(b, []byte("\x00"+entry+"\x00"))
}
