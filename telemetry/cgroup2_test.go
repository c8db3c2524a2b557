package telemetry

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// What test/microvm gives to tests: a disk to read from, and one with the head of a swap area.
const (
	diskEnv = "FETTLE_TEST_DISK"
	swapEnv = "FETTLE_TEST_SWAP"
)

// inGroupV2 is a child in a control group of its own with these controllers, and the group's directory and reader.
func inGroupV2(t *testing.T, controllers ...string) (*child, string, ft.Reader) {
	t.Helper()
	const parent = "/sys/fs/cgroup"
	b, err := os.ReadFile(filepath.Join(parent, "cgroup.subtree_control"))
	if err != nil {
		t.Skipf("cgroup v2 is not at %s: %v", parent, err)
	}
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(b)), c) {
			t.Skipf("%s gives its groups %q, not %s", parent, b, c)
		}
	}
	dir := realGroup(t, parent)
	c := newChild(t)
	join(t, dir, c)
	in := c.instance()
	in.Scope.CgroupV2 = dir
	r, missing, err := Cgroup().Attach(in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if len(missing) > 0 {
		t.Errorf("not available: %v", missing)
	}
	return c, dir, r
}

// keyedFile is one number of a file of the group.
func keyedFile(t *testing.T, dir, name, key string) float64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	v := [1]uint64{}
	if parseKeyed(b, []string{key}, v[:]) != 1 {
		t.Fatalf("no %s in %s:\n%s", key, name, b)
	}
	return float64(v[0])
}

func TestRealCgroupV2Memory(t *testing.T) {
	c, _, r := inGroupV2(t, "memory", "cpu")
	before := readGroup(t, r)[colGroupAnon]
	c.do("alloc 33554432")
	near(t, "anonymous memory of the group", readGroup(t, r)[colGroupAnon]-before, 32<<20, 3<<20)
}

// TestRealCgroupV2Throttled: with a fifth of a core, one that wants a whole one is throttled in nearly every period.
func TestRealCgroupV2Throttled(t *testing.T) {
	c, dir, r := inGroupV2(t, "memory", "cpu")
	readGroup(t, r)
	c.do("burn 100")
	if got := readGroup(t, r)[colThrottled]; got != 0 {
		t.Errorf("without a quota it is throttled for a share of %g", got)
	}
	put(t, filepath.Join(dir, "cpu.max"), "20000 100000")
	periods, throttled := keyedFile(t, dir, "cpu.stat", "nr_periods"), keyedFile(t, dir, "cpu.stat", "nr_throttled")
	c.do("burn 200")
	got := readGroup(t, r)[colThrottled]
	periods, throttled = keyedFile(t, dir, "cpu.stat", "nr_periods")-periods, keyedFile(t, dir, "cpu.stat", "nr_throttled")-throttled
	near(t, "throttled share of periods", got, throttled/periods, 0.05)
	if got < 0.5 {
		t.Errorf("with a fifth of a core it is throttled for a share of %g", got)
	}
}

// TestRealCgroupV2Refaults: pages of a file that is larger than memory.high are read again and again.
func TestRealCgroupV2Refaults(t *testing.T) {
	disk := os.Getenv(diskEnv)
	if disk == "" {
		t.Skip("no disk to read from: set " + diskEnv + ", as test/microvm does")
	}
	c, dir, r := inGroupV2(t, "memory", "cpu")
	held, err := os.Open(disk) // the last to close a disk drops all pages of it, and with them what was known of evicted ones
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	before := readGroup(t, r)[colRefaults]
	c.do("read 67108864 " + disk)
	if got := readGroup(t, r)[colRefaults]; got != before {
		t.Errorf("read once without a limit: %g refaults", got-before)
	}
	put(t, filepath.Join(dir, "memory.high"), strconv.Itoa(32<<20))
	c.do("read 67108864 " + disk)
	c.do("read 67108864 " + disk)
	want := keyedFile(t, dir, "memory.stat", "workingset_refault_file") + keyedFile(t, dir, "memory.stat", "workingset_refault_anon")
	got := readGroup(t, r)[colRefaults]
	near(t, "refaults", got, want, 0)
	if got-before < 1000 {
		t.Errorf("64 MiB read through 32 MiB, twice: %g refaults", got-before)
	}
	if keyedFile(t, dir, "memory.events", "high") == 0 {
		t.Error("memory.high was never crossed")
	}
}

// TestRealCgroupV2Stall: more memory in use than memory.high, with swap: tasks stall, what was swapped out is needed again,
// and the working set is left alone, for the kernel needs the referenced bits itself.
func TestRealCgroupV2Stall(t *testing.T) {
	swap := os.Getenv(swapEnv)
	if swap == "" {
		t.Skip("no swap: set " + swapEnv + ", as test/microvm does")
	}
	swapOn(t, swap)
	c, dir, r := inGroupV2(t, "memory", "cpu")
	c.do("region 67108864")
	in := c.instance()
	in.Scope.CgroupV2 = dir
	s := subjectOf(t, quick(), in)
	touch := func() { c.do("touch 0 64") }
	if row := s.round(t, touch, touch); !(row[colSet] >= 64*mib) {
		t.Errorf("with memory enough it references %g bytes (%s)", row[colSet], s.why)
	}
	before := readGroup(t, r)
	put(t, filepath.Join(dir, "memory.high"), strconv.Itoa(48<<20))
	s.round(t, touch, touch)
	after := readGroup(t, r)
	if d := after[colRefaults] - before[colRefaults]; d < 1000 {
		t.Errorf("%g refaults", d)
	}
	if d := after[colMemoryStall] - before[colMemoryStall]; !(d > 0) {
		t.Errorf("%g s of stall", d)
	}
	if s.stage != resting || !strings.Contains(s.why, "is short") {
		t.Errorf("stage %d, reason %q", s.stage, s.why)
	}
	put(t, filepath.Join(dir, "memory.high"), "max")
	touch()
	s.turn(time.Now()) // it was short since the last look
	if row := s.round(t, touch, touch); !(row[colSet] >= 64*mib) {
		t.Errorf("with memory enough again it references %g bytes (%s)", row[colSet], s.why)
	}
}

func swapOn(t *testing.T, path string) {
	t.Helper()
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, e := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0); e != 0 {
		t.Fatalf("turn on the swap area %s: %v", path, e)
	}
	t.Cleanup(func() {
		if _, _, e := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); e != 0 {
			t.Errorf("turn off the swap area %s: %v", path, e)
		}
	})
}

// TestRealCgroupV2OOM: the kernel kills in a group that is full; its readings end, with the reason once it is removed.
func TestRealCgroupV2OOM(t *testing.T) {
	c, dir, r := inGroupV2(t, "memory", "cpu")
	put(t, filepath.Join(dir, "memory.max"), strconv.Itoa(48<<20))
	c.say("alloc 134217728")
	if line, err := c.out.ReadString('\n'); err == nil {
		t.Errorf("128 MiB fit into 48: %s", line)
	}
	_ = c.cmd.Wait()
	if n := keyedFile(t, dir, "memory.events", "oom_kill"); n < 1 {
		t.Errorf("%g kills for want of memory", n)
	}
	if got := readGroup(t, r)[colGroupAnon]; !(got < 48<<20) {
		t.Errorf("%g bytes are left in the group", got)
	}
}
