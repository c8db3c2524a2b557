// Command init is process 1 of the microvm: it mounts what the tests need, runs them, and ends the machine. The lines
// that it prints are read by the program that started the machine.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("microvm: failed:", err)
	}
	fmt.Printf("microvm: up for %.1f s\n", uptime())
	fmt.Println("microvm: the end")
	unix.Sync()
	// Without ACPI there is no power switch: the machine is told to end instead of to start again.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Println("microvm: failed: restart:", err)
	}
}

func uptime() float64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano()).Seconds()
}

func run() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/dev/shm"}, {"tmpfs", "/tmp"}, {"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	// Else the Go runtime's heap is in huge pages, and a byte of it references 2 MiB.
	if err := os.WriteFile("/sys/kernel/mm/transparent_hugepage/enabled", []byte("madvise"), 0o644); err != nil {
		return fmt.Errorf("huge pages only for those that ask: %w", err)
	}
	if err := loopback(); err != nil {
		return err
	}
	if err := disks(); err != nil {
		return err
	}
	return tests()
}

// loopback brings the loopback device up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

const (
	disk     = "/dev/ram0" // to read from
	swap     = "/dev/ram1" // to swap to, once somebody turns it on
	diskSize = 192 << 20
)

// disks makes two RAM disks, the second with the head of a swap area (struct swap_header of the kernel).
func disks() error {
	f, err := os.Open("/brd.ko")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), fmt.Sprintf("rd_nr=2 rd_size=%d", diskSize>>10), 0); err != nil {
		return fmt.Errorf("load brd.ko: %w", err)
	}
	page := os.Getpagesize()
	head := make([]byte, page)
	binary.NativeEndian.PutUint32(head[1024:], 1)                       // version
	binary.NativeEndian.PutUint32(head[1028:], uint32(diskSize/page-1)) // last page
	copy(head[page-10:], "SWAPSPACE2")
	return os.WriteFile(swap, head, 0o600)
}

// tests runs each test binary of /tests with the package and the arguments in the file beside it, in a control group of its own below
// a root that gives all controllers.
func tests() error {
	all, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return err
	}
	fmt.Printf("microvm: cgroup v2 with %s", all)
	on := "+" + strings.Join(strings.Fields(string(all)), " +")
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte(on), 0o644); err != nil {
		return fmt.Errorf("turn on all controllers: %w", err)
	}
	binaries, err := filepath.Glob("/tests/*.test")
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range binaries {
		if err := test(b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(b), err))
		}
	}
	return errors.Join(errs...)
}

func test(binary string) error {
	args, err := os.ReadFile(binary + ".args")
	if err != nil {
		return err
	}
	group := filepath.Join("/sys/fs/cgroup", filepath.Base(binary))
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	g, err := unix.Open(group, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(g)
	pkg, rest, _ := strings.Cut(string(args), "\n")
	c := exec.Command(binary, strings.Split(rest, "\n")...)
	c.Dir, c.Stdout, c.Stderr = "/tmp", os.Stdout, os.Stderr
	c.Env = []string{"PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp", "FETTLE_TEST_DISK=" + disk, "FETTLE_TEST_SWAP=" + swap}
	c.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: g}
	from := time.Now()
	err = c.Run()
	word := "ok  "
	if err != nil {
		word = "FAIL"
	}
	fmt.Printf("%s\t%s\t%.3fs\n", word, pkg, time.Since(from).Seconds()) // as go test does
	return err
}
