package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// proc follows one process by its pidfd, a child or an adopted one, without a thread of its own.
type proc struct {
	identity
	fd   *os.File
	done chan struct{} // closed when it has ended and exit is set

	mu   sync.Mutex
	exit ft.Exit
}

// errGone is why a process is not followed: it does not run.
var errGone = errors.New("no such process any more")

// follow opens a process by its identity. Its descriptor is opened before the identity is compared, so that the number
// cannot pass to another process in between.
func follow(id identity) (*proc, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.10
		if fd, err = unix.PidfdOpen(id.PID, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	p := &proc{identity: id, fd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	// One that has ended and is not reaped yet is followed too: its status can still be found.
	s, err := readStat(id.PID)
	if err != nil || s.start != id.StartTime {
		return nil, errors.Join(errGone, p.fd.Close())
	}
	return p, nil
}

func (p *proc) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// dying tells whether the process has ended, also before that was noted.
func (p *proc) dying() bool {
	s, err := readStat(p.PID)
	return err != nil || s.start != p.StartTime || s.dead()
}

// wait blocks until the process has ended or the descriptor is closed, reaps it if it is a child, and finds its status.
func (p *proc) wait() (ft.Exit, bool) {
	c, err := p.fd.SyscallConn()
	if err != nil {
		return ft.Exit{}, false
	}
	var exit ft.Exit
	over := false
	err = c.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			return false
		}
		exit, over = p.reap(int(fd)), true
		return true
	})
	exit.At = time.Now()
	return exit, err == nil && over
}

// status is how a process that is known to have ended did so.
func (p *proc) status() ft.Exit {
	c, err := p.fd.SyscallConn()
	if err != nil {
		return ft.Exit{}
	}
	var exit ft.Exit
	if err := c.Control(func(fd uintptr) { exit = p.reap(int(fd)) }); err != nil {
		return ft.Exit{}
	}
	return exit
}

// close ends the wait.
func (p *proc) close() { _ = p.fd.Close() } // a descriptor without content: nothing can be lost

// reap finds the status of a process that has ended: of a child by wait4(2); of another's child by /proc/PID/stat until
// its parent has reaped it, and by the kernel's exit information (Linux 6.15) from then on.
func (p *proc) reap(fd int) ft.Exit {
	var ws unix.WaitStatus
	// P_PIDFD cannot confuse two processes; a child's number stays taken until wait4 frees it.
	for {
		err := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			break
		}
		if n, err := unix.Wait4(p.PID, &ws, unix.WNOHANG, nil); err == nil && n == p.PID {
			return exitOf(ws)
		}
		break
	}
	for range 100 {
		if s, err := readStat(p.PID); err == nil && s.start == p.StartTime && s.dead() && (s.status != 0 || maySee(p.PID)) {
			return exitOf(unix.WaitStatus(uint32(s.status)))
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err != nil {
			return ft.Exit{}
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return exitOf(unix.WaitStatus(uint32(info.Exit_code)))
		}
		time.Sleep(5 * time.Millisecond)
	}
	return ft.Exit{}
}

func exitOf(ws unix.WaitStatus) ft.Exit {
	switch {
	case ws.Signaled():
		return ft.Exit{Known: true, Signal: int(ws.Signal())}
	case ws.Exited():
		return ft.Exit{Known: true, Code: ws.ExitStatus()}
	}
	return ft.Exit{}
}

// finish sets how it ended.
func (p *proc) finish(e ft.Exit) {
	p.mu.Lock()
	p.exit = e
	p.mu.Unlock()
	close(p.done)
}

func (p *proc) outcome() ft.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// signalGroup sends to the leader's process group, also when the leader itself has ended and others of the group run
// on. The descriptor names the group, so that nobody else is meant. Already gone is success.
func (p *proc) signalGroup(sig unix.Signal) error {
	c, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = c.Control(func(fd uintptr) {
		sent = unix.PidfdSendSignal(int(fd), sig, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		if errors.Is(sent, unix.EINVAL) || errors.Is(sent, unix.ENOSYS) { // before Linux 6.9
			if sent = unix.PidfdSendSignal(int(fd), 0, nil, 0); sent == nil {
				sent = unix.Kill(-p.PID, sig)
			}
		}
	})
	if err == nil && !errors.Is(sent, unix.ESRCH) {
		err = sent
	}
	return err
}
