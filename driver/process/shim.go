package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ShimCommand is the hidden subcommand under which the binary calls [Shim].
const ShimCommand = "internal-exec"

// statusFD is where the shim says why it failed. It closes when the command runs.
const statusFD = 3

// shimExit is the shim's exit status when it did not become the command.
const shimExit = 126

// lockTimeout bounds the wait for an instance directory's lock; its holders do a few file operations only.
const lockTimeout = 10 * time.Second

// errLate is why a shim ends when its launch is not wanted any more: a daemon found the record without a process,
// and cleared it.
var errLate = errors.New("the record names another launch")

// Shim is the hidden subcommand `fettle internal-exec DIRECTORY TOKEN`: it runs between fork and exec of an instance.
// Under the lock of the instance's directory it checks that the record still wants this launch, writes its own
// identity durably, gives up privileges, and becomes the command. So whoever dies at whatever moment, there is either
// no process or one that the record names. It returns only when it failed; main exits with the code.
func Shim(args []string) (code int) {
	status := os.NewFile(statusFD, "status")
	if len(args) != 2 {
		fmt.Fprintln(status, ShimCommand+" is called by fettle itself")
		return shimExit
	}
	syscall.CloseOnExec(statusFD)
	// Privileges belong to the thread, and exec keeps those of the thread that calls it.
	runtime.LockOSThread()
	if err := become(args[0], args[1]); err != nil {
		fmt.Fprint(status, err.Error())
	}
	return shimExit
}

func become(dir, token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	// The lock is let go by the kernel at exec, or at the end.
	if _, err := lock(ctx, dir); err != nil {
		return err
	}
	var rec record
	if err := load(dir, recordFile, &rec); err != nil {
		return err
	}
	if rec.Token != token {
		return errLate
	}
	id, err := self(token)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if err := save(dir, identityFile, id); err != nil {
		return err
	}
	if err := rec.Group.Join(); err != nil {
		return err
	}
	if rec.Nice != nil && *rec.Nice != 0 {
		if err := setAutogroup(id.PID, *rec.Nice); err != nil {
			return err
		}
	}
	if err := dropPrivileges(rec.User); err != nil {
		return err
	}
	if err := os.Chdir(rec.Cwd); err != nil {
		return fmt.Errorf("enter the working directory%s: %w", rec.User.as(), err)
	}
	// Descriptors that somebody left open over exec are none of the command's business.
	if err := unix.CloseRange(statusFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("close descriptors: %w", err)
	}
	if err := resetSignals(); err != nil {
		return err
	}
	if err := syscall.Exec(rec.Path, rec.Args, rec.Env); err != nil {
		return fmt.Errorf("run %s%s: %w", rec.Path, rec.User.as(), explainExec(rec.Path, err))
	}
	return nil
}

func explainExec(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: it is neither a program for this machine nor a script whose first line is #! and an interpreter", err)
	case errors.Is(err, syscall.ENOENT):
		if _, e := os.Stat(path); e == nil {
			return fmt.Errorf("%w: the interpreter or loader that it names does not exist", err)
		}
	}
	return err
}

func (a *account) as() string {
	if a == nil {
		return ""
	}
	return " as user " + a.Name
}

// dropPrivileges gives up what can never be needed again, and the user last because it takes the power to do the rest.
func dropPrivileges(to *account) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	caps, err := capabilities()
	if err != nil {
		return err
	}
	if caps.effective(unix.CAP_SETPCAP) {
		for c := uintptr(0); ; c++ {
			err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
			if errors.Is(err, unix.EINVAL) {
				break // beyond the last one of this kernel
			}
			if err != nil {
				return fmt.Errorf("capability bounding set: %w", err)
			}
		}
	}
	caps.data[0].Inheritable, caps.data[1].Inheritable = 0, 0
	if err := unix.Capset(&caps.header, &caps.data[0]); err != nil {
		return fmt.Errorf("inheritable capabilities: %w", err)
	}
	if to == nil {
		return nil
	}
	if err := syscall.Setgroups(to.Groups); err != nil {
		return fmt.Errorf("set groups of %s: %w", to.Name, err)
	}
	if err := syscall.Setresgid(to.GID, to.GID, to.GID); err != nil {
		return fmt.Errorf("set group of %s: %w", to.Name, err)
	}
	if err := syscall.Setresuid(to.UID, to.UID, to.UID); err != nil {
		return fmt.Errorf("set user %s: %w", to.Name, err)
	}
	return nil
}

type capState struct {
	header unix.CapUserHeader
	data   [2]unix.CapUserData
}

func (c *capState) effective(bit int) bool { return c.data[bit/32].Effective>>(bit%32)&1 != 0 }

// capabilities reads those of the calling thread.
func capabilities() (*capState, error) {
	c := &capState{header: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}}
	if err := unix.Capget(&c.header, &c.data[0]); err != nil {
		return nil, fmt.Errorf("capabilities: %w", err)
	}
	return c, nil
}

// setAutogroup sets the priority of the process's session against other sessions (sched(7)). Without privilege the
// kernel takes one change in a tenth of a second, of all processes together, and says EAGAIN to more.
func setAutogroup(pid, nice int) error {
	path := filepath.Join("/proc", strconv.Itoa(pid), "autogroup")
	var err error
	for deadline := time.Now().Add(lockTimeout); time.Now().Before(deadline); {
		// Opened as it is: the file exists while the process does, and must not be created otherwise.
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
			return fmt.Errorf("set priority: %w", err)
		}
		_, err = f.WriteString(strconv.Itoa(nice))
		_ = f.Close()
		if !errors.Is(err, syscall.EAGAIN) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("set priority %d: %w", nice, err)
	}
	return nil
}

// kernelSigaction is struct sigaction of the kernel with all zero: default action, no flags, empty mask. It is at
// least as large as the kernel's on all architectures.
type kernelSigaction [8]uintptr

// resetSignals undoes what this process inherited: signals ignored (nohup) or blocked would stay so over exec.
func resetSignals() error {
	var act kernelSigaction
	for s := uintptr(1); s <= 64; s++ {
		if s == uintptr(syscall.SIGKILL) || s == uintptr(syscall.SIGSTOP) {
			continue
		}
		_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
		if e != 0 {
			return fmt.Errorf("reset signal %d: %w", s, e)
		}
	}
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	return nil
}
