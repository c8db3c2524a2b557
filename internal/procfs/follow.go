package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle"
)

// Process is one that is followed by its descriptor, without a thread. It is safe for concurrent use.
type Process struct {
	PID   int
	Start uint64 // clock ticks since boot
	FD    *os.File
}

// ErrGone is why a process is not followed: it does not run.
var ErrGone = errors.New("no such process any more")

// Follow opens a process by its number and start time. The descriptor is opened before the start time is compared, so
// that the number cannot pass to another process in between. One that has ended and was not waited for yet is followed
// too: its status can still be found. It is [ErrGone] where that process is there no more.
func Follow(pid int, start uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.10
		if fd, err = unix.PidfdOpen(pid, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &Process{PID: pid, Start: start, FD: os.NewFile(uintptr(fd), "pidfd")}
	s, err := ReadStat(pid)
	if err != nil || s.Start != start {
		return nil, errors.Join(ErrGone, p.FD.Close())
	}
	return p, nil
}

// Dying tells whether it has ended, also before [Process.Wait] says so.
func (p *Process) Dying() bool {
	s, err := ReadStat(p.PID)
	return err != nil || s.Start != p.Start || s.Dead()
}

// Wait blocks until it has ended, and then calls f with the descriptor. It is false, and f was not called, where the
// descriptor was closed before.
func (p *Process) Wait(f func(fd int)) bool {
	c, err := p.FD.SyscallConn()
	if err != nil {
		return false
	}
	over := false
	err = c.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			return false
		}
		f(int(fd))
		over = true
		return true
	})
	return err == nil && over
}

// Close gives the descriptor back and ends a Wait.
func (p *Process) Close() error { return p.FD.Close() }

// Ended is how a process that has ended did so, as far as one can tell who is not its parent: by /proc/PID/stat until
// its parent has waited for it, and by the kernel's exit information (Linux 6.15) from then on.
func (p *Process) Ended(fd int) fettle.Exit {
	for range 100 {
		if s, err := ReadStat(p.PID); err == nil && s.Start == p.Start && s.Dead() && (s.Status != 0 || maySee(p.PID)) {
			return ExitOf(unix.WaitStatus(uint32(s.Status)))
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err != nil {
			return fettle.Exit{}
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return ExitOf(unix.WaitStatus(uint32(info.Exit_code)))
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fettle.Exit{}
}

// ExitOf puts a status of wait(2) into words.
func ExitOf(ws unix.WaitStatus) fettle.Exit {
	switch {
	case ws.Signaled():
		return fettle.Exit{Known: true, Signal: int(ws.Signal())}
	case ws.Exited():
		return fettle.Exit{Known: true, Code: ws.ExitStatus()}
	}
	return fettle.Exit{}
}

// maySee tells whether this process sees the status of that one in /proc: the same user's, or any with CAP_SYS_PTRACE.
func maySee(pid int) bool {
	if mayTrace() {
		return true
	}
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && int(st.Uid) == os.Geteuid()
}

// mayTrace tells whether CAP_SYS_PTRACE is in effect (capabilities(7)).
func mayTrace() bool {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, ok := bytes.Cut(b, []byte("\nCapEff:"))
	if !ok {
		return false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	caps, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return err == nil && caps>>unix.CAP_SYS_PTRACE&1 != 0
}
