package process

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// proc follows one process by its pidfd, a child or an adopted one, without a thread of its own.
type proc struct {
	identity
	os   *procfs.Process
	done chan struct{} // closed when it has ended and exit is set

	mu   sync.Mutex
	exit ft.Exit
}

// follow opens a process by its identity; it is [procfs.ErrGone] where that does not run.
func follow(id identity) (*proc, error) {
	p, err := procfs.Follow(id.PID, id.StartTime)
	if err != nil {
		return nil, err
	}
	return &proc{identity: id, os: p, done: make(chan struct{})}, nil
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
	return (&procfs.Process{PID: p.PID, Start: p.StartTime}).Dying()
}

// wait blocks until the process has ended or the descriptor is closed, reaps it if it is a child, and finds its status.
func (p *proc) wait() (exit ft.Exit, ok bool) {
	ok = p.os.Wait(func(fd int) { exit = p.reap(fd) })
	exit.At = time.Now()
	return exit, ok
}

// status is how a process that is known to have ended did so.
func (p *proc) status() ft.Exit {
	c, err := p.os.FD.SyscallConn()
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
func (p *proc) close() { _ = p.os.Close() } // a descriptor without content: nothing can be lost

// reap finds the status of a process that has ended: of a child by wait4(2), of another's child as [procfs.Process.Ended] can.
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
			return procfs.ExitOf(ws)
		}
		break
	}
	return p.os.Ended(fd)
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
	c, err := p.os.FD.SyscallConn()
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
