package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

const (
	startWithin = 10 * time.Second // from the start of a router until it answers
	silentFor   = 10 * time.Second // without a heartbeat, after which a router is asked whether it lives
	lastChance  = 5 * time.Second  // for its answer
	logMost     = 16 << 20         // bytes of the router's log after which a new one is begun at the next start
	backoffMost = 5 * time.Second  // between the starts of routers that die at once
)

// launch starts a router and publishes what the Front knows to it.
func (f *Front) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	path := filepath.Join(filepath.Dir(f.link.socket), "router.log")
	if st, err := os.Stat(path); err == nil && st.Size() > logMost {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("router log: %w", err)
		}
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("router log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(f.o.Exe, "internal-router", f.link.socket)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the router: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		h, err := f.link.hello(ctx)
		if err == nil && h.PID == cmd.Process.Pid {
			break
		}
		select {
		case err := <-exited:
			return fmt.Errorf("the router ended at once (%w), its log says: %s", errors.Join(errExited, err), lastOf(path))
		case <-ctx.Done():
			_ = cmd.Process.Kill() // it answers nothing
			return fmt.Errorf("the router did not answer within %s: %w", startWithin, errors.Join(ctx.Err(), err))
		case <-time.After(2 * time.Millisecond):
		}
	}
	f.mu.Lock()
	pools := make([]*PoolFront, 0, len(f.pools))
	for _, p := range f.pools {
		pools = append(pools, p)
	}
	f.mu.Unlock()
	f.o.Log.Info("router started", "pid", cmd.Process.Pid, "pools", len(pools))
	for _, p := range pools {
		if err := p.republish(ctx); err != nil {
			_ = cmd.Process.Kill() // or it would hold the socket without the tables
			return fmt.Errorf("pool %s: %w", p.name, err)
		}
	}
	f.mu.Lock()
	f.pid = cmd.Process.Pid
	f.mu.Unlock()
	return nil
}

var errExited = errors.New("exited")

// lastOf is the end of a file, at most 1 KiB.
func lastOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 1<<10 {
		if _, err := f.Seek(-1<<10, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// follow listens to the router's events and starts a new router when it dies, until the Front is closed.
func (f *Front) follow() {
	backoff := time.Duration(0)
	for f.ctx.Err() == nil {
		began := time.Now()
		err := f.listen()
		if f.ctx.Err() != nil {
			return
		}
		if f.lives() {
			continue // only the stream of events ended
		}
		if time.Since(began) > 10*backoffMost {
			backoff = 0
		}
		f.o.Log.Error("the router died; starting another with the same listeners", "pid", f.PID(), "err", err)
		f.bury()
		for f.ctx.Err() == nil {
			err := f.launch(f.ctx)
			if err == nil {
				break
			}
			f.o.Log.Error("start the router", "err", err)
			backoff = min(max(2*backoff, 10*time.Millisecond), backoffMost)
			select {
			case <-f.ctx.Done():
			case <-time.After(backoff):
			}
		}
	}
}

// lives asks the router for a sign of life.
func (f *Front) lives() bool {
	ctx, cancel := context.WithTimeout(f.ctx, lastChance)
	defer cancel()
	_, err := f.link.hello(ctx)
	return err == nil
}

// bury kills a router that hangs: the new one needs its socket.
func (f *Front) bury() {
	pid := f.PID()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // dead
	}
	defer func() { _ = unix.Close(fd) }()
	if !isRouter(pid) {
		return // dead, and its number is another's now
	}
	f.o.Log.Error("the router hangs and is killed", "pid", pid)
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // dead in the meantime
}

// isRouter tells whether a process was started as a router.
func isRouter(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(b, []byte("\x00internal-router\x00"))
}

// listen hands the router's events on until the stream ends.
func (f *Front) listen() error {
	c, err := f.link.dial(f.ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(f.ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })() // fails where it is closed already
	if err := c.Send(&wire.Request{Op: wire.OpEvents}, nil); err != nil {
		return err
	}
	for {
		if err := c.SetDeadline(time.Now().Add(silentFor)); err != nil {
			return err
		}
		if f.ctx.Err() != nil {
			return f.ctx.Err()
		}
		var r wire.Reply
		if err := c.Receive(&r); err != nil {
			return err
		}
		if e := r.Event; e != nil {
			f.o.Unresponsive(eventOf(e))
		}
	}
}

func eventOf(e *wire.Event) ft.Event {
	at := ft.Stamp{At: e.At}
	if e.Again {
		return &ft.Responsive{Stamp: at, Ref: e.Ref}
	}
	return &ft.Unresponsive{Stamp: at, Ref: e.Ref, Probe: e.Probe, Silent: e.Silent, Detail: e.Detail}
}

// awaitExit returns when the process is gone; at the end of ctx it is killed.
func awaitExit(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // gone
	}
	defer func() { _ = unix.Close(fd) }()
	if !isRouter(pid) {
		return nil
	}
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the router's end: %w", err)
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // gone in the meantime
			return fmt.Errorf("the router had requests in flight and was killed: %w", ft.ErrDeadline)
		}
	}
}
