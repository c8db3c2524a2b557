// Command microvm runs tests of control groups version 2 for real, on a machine whose own kernel has them otherwise or
// not at all: it builds static test binaries, puts them into the initial RAM disk of a small virtual machine with Debian's
// kernel (QEMU's microvm under software emulation, no KVM), and prints what they print. It fails when a test did, when
// one of the binaries ran none, or when the machine did not come to its end.
//
// kernel.sh fetches the kernel; `make test-microvm` does both. In it, process 1 is test/microvm/init.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// suite is one test binary and what of it is run.
type suite struct{ pkg, run string }

const module = "github.com/fettle-dev/fettle/"

// suites are run in this order.
var suites = []suite{
	{"internal/cgroup", "^Test"},
	{"driver/process", "^(TestTuning|TestMemoryLimit)$"},
	{"driver/watch", "^(TestUnitsAreInstances|TestGroupsByPathAreInstances|TestTheGroupThatHoldsFettle)"},
	{"telemetry", "^(TestRealCgroupV2|TestCgroupThatIsGone|TestGroupMembersAreFound|TestSubGroups|TestADescendantIn|TestAnInstanceWithin|TestWorkingSetIs|TestWorkingSetOf|TestWrittenPages|TestNotWhere|TestReusedNumber|TestLeaderWhose|TestBusiest)"},
}

func main() {
	dir := flag.String("kernel", "bin/microvm", "folder with vmlinuz and brd.ko, as kernel.sh leaves it")
	within := flag.Duration("within", 10*time.Minute, "the machine is stopped after that")
	flag.Parse()
	if err := run(*dir, *within); err != nil {
		fmt.Fprintln(os.Stderr, "microvm:", err)
		os.Exit(1)
	}
}

func run(dir string, within time.Duration) error {
	work, err := os.MkdirTemp("", "microvm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	disk := filepath.Join(work, "initrd")
	if err := pack(disk, work, dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	out, err := boot(ctx, filepath.Join(dir, "vmlinuz"), disk)
	if ctx.Err() != nil {
		return fmt.Errorf("it did not come to its end within %s", within)
	}
	if err != nil {
		return err
	}
	return judge(out)
}

// boot runs the machine and passes on what it prints, but for the kernel's and the firmware's own.
func boot(ctx context.Context, kernel, disk string) (printed []byte, err error) {
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-M", "microvm,acpi=off", "-cpu", "max", "-smp", "2", "-m", "768M",
		"-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio", "-kernel", kernel, "-initrd", disk,
		// Nothing tells the kernel how fast the emulated TSC counts: its clock is as coarse as its timer, 4 ms.
		"-append", "console=ttyS0 quiet panic=-1 reboot=t psi=1 tsc=unstable")
	c.Stderr = os.Stderr
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start the machine (Debian: qemu-system-x86): %w", err)
	}
	var all bytes.Buffer
	for in := bufio.NewReader(pipe); ; {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if line != "" {
			all.WriteString(line + "\n")
			fmt.Println(line)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return nil, err
			}
			break
		}
	}
	if err := c.Wait(); err != nil {
		return nil, fmt.Errorf("the machine: %w", err)
	}
	return all.Bytes(), nil
}

// judge tells from what was printed whether all is well.
func judge(out []byte) error {
	var errs []error
	count := map[string]int{}
	ended := false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		for _, word := range []string{"PASS", "FAIL", "SKIP"} {
			if strings.HasPrefix(line, "--- "+word+": ") {
				count[word]++
			}
		}
		if why, is := strings.CutPrefix(line, "microvm: failed: "); is {
			errs = append(errs, errors.New(why))
		}
		ended = ended || line == "microvm: the end"
	}
	fmt.Printf("microvm: %d passed, %d failed, %d skipped\n", count["PASS"], count["FAIL"], count["SKIP"])
	if !ended {
		errs = append(errs, errors.New("the machine ended before its tests"))
	}
	if count["PASS"] == 0 {
		errs = append(errs, errors.New("no test passed"))
	}
	return errors.Join(errs...)
}

// pack builds the binaries and writes the initial RAM disk.
func pack(disk, work, kernel string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("tests in the machine need a shell (Debian: busybox-static): %w", err)
	}
	a := &archive{}
	for _, d := range []string{"bin", "dev", "proc", "sys", "tests", "tmp"} {
		a.dir(d)
	}
	a.file("bin/busybox", busybox)
	for _, name := range []string{"sh", "head", "tail", "sleep", "cat"} {
		a.link("bin/"+name, "busybox")
	}
	a.file("brd.ko", filepath.Join(kernel, "brd.ko"))
	build := func(to string, args ...string) error {
		c := exec.Command("go", args...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("build %s: %w", to, err)
		}
		return nil
	}
	program := filepath.Join(work, "init")
	if err := build("init", "build", "-o", program, "./test/microvm/init"); err != nil {
		return err
	}
	a.file("init", program)
	for i, s := range suites {
		name := fmt.Sprintf("%d-%s.test", i, strings.ReplaceAll(s.pkg, "/", "-"))
		program := filepath.Join(work, name)
		if err := build(s.pkg, "test", "-c", "-ldflags", "-s -w", "-o", program, "./"+s.pkg); err != nil {
			return err
		}
		a.file("tests/"+name, program)
		a.text("tests/"+name+".args", module+s.pkg+"\n-test.v\n-test.short\n-test.timeout=5m\n-test.run\n"+s.run)
	}
	if err := a.write(disk); err != nil {
		return fmt.Errorf("write the RAM disk: %w", err)
	}
	return nil
}

// archive is a cpio archive in the format "newc", which the kernel unpacks (Documentation/driver-api/early-userspace of
// the kernel).
type archive struct {
	bytes.Buffer
	entries int
	err     error
}

func (a *archive) dir(name string)           { a.add(name, 0o040755, nil) }
func (a *archive) link(name, to string)      { a.add(name, 0o120777, []byte(to)) }
func (a *archive) text(name, content string) { a.add(name, 0o100644, []byte(content)) }
func (a *archive) file(name, from string) {
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (test/microvm/kernel.sh %s fetches the kernel)", err, filepath.Dir(from))
	}
	a.err = errors.Join(a.err, err)
	a.add(name, 0o100755, b)
}

func (a *archive) add(name string, mode int, content []byte) {
	a.entries++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.entries, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, (4-a.Len()%4)%4)) }

func (a *archive) write(path string) error {
	a.add("TRAILER!!!", 0, nil)
	if a.err != nil {
		return a.err
	}
	return os.WriteFile(path, a.Bytes(), 0o644)
}
