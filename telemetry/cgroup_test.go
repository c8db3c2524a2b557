package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// groupDir is a folder with files as a control group has them.
func groupDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, name), text)
	}
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readGroup(t *testing.T, r ft.Reader) []float64 {
	t.Helper()
	row := make([]float64, groupColumns)
	if err := r.Read(time.Now(), row, nil); err != nil {
		t.Fatal(err)
	}
	return row
}

func wantRow(t *testing.T, got []float64, want ...float64) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

const pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"

func TestCgroupV2(t *testing.T) {
	dir := groupDir(t, map[string]string{
		"memory.stat":     "anon 4096\nfile 8192\nworkingset_refault_anon 3\nworkingset_refault_file 4\n",
		"cpu.stat":        "usage_usec 5\nnr_periods 100\nnr_throttled 20\nthrottled_usec 7\n",
		"cpu.pressure":    fmt.Sprintf(pressure, 1500000),
		"memory.pressure": fmt.Sprintf(pressure, 250000),
	})
	r, missing, err := Cgroup().Attach(ft.Instance{Scope: ft.Scope{PID: 1, CgroupV2: dir}})
	if err != nil || len(missing) > 0 {
		t.Fatal(err, missing)
	}
	defer r.Close()
	nan := math.NaN()
	wantRow(t, readGroup(t, r), 4096, 7, nan, 0.25, 1.5)
	put(t, filepath.Join(dir, "cpu.stat"), "usage_usec 5\nnr_periods 140\nnr_throttled 30\nthrottled_usec 7\n")
	wantRow(t, readGroup(t, r), 4096, 7, 0.25, 0.25, 1.5)
	wantRow(t, readGroup(t, r), 4096, 7, 0, 0.25, 1.5)
	put(t, filepath.Join(dir, "memory.stat"), "")
	wantRow(t, readGroup(t, r), nan, nan, 0, 0.25, 1.5)
}

func TestCgroupV1(t *testing.T) {
	memory := groupDir(t, map[string]string{"memory.stat": "cache 1\nrss 2\nworkingset_refault_file 9\ntotal_rss 8192\ntotal_workingset_refault 6\n"})
	cpu := groupDir(t, map[string]string{"cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"})
	r, missing, err := Cgroup().Attach(ft.Instance{Scope: ft.Scope{PID: 1, CgroupV1: map[string]string{"memory": memory, "cpu": cpu}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(missing) != 2 || !strings.Contains(missing[ft.DimPressCPU], "v1") || !strings.Contains(missing[ft.DimPressMem], "v1") {
		t.Errorf("not available: %v", missing)
	}
	nan := math.NaN()
	wantRow(t, readGroup(t, r), 8192, 6, nan, nan, nan)
	wantRow(t, readGroup(t, r), 8192, 6, 0, nan, nan)
}

// TestCgroupLessReading: memory.stat is left alone while the memory charged to the group stays what it was.
func TestCgroupLessReading(t *testing.T) {
	dir := groupDir(t, map[string]string{
		"memory.stat":     "anon 4096000\nfile 8192\nworkingset_refault_anon 3\nworkingset_refault_file 4\n",
		"memory.current":  "5000000\n",
		"cpu.stat":        "usage_usec 5\nnr_periods 100\nnr_throttled 20\nthrottled_usec 7\n",
		"cpu.pressure":    fmt.Sprintf(pressure, 1500000),
		"memory.pressure": fmt.Sprintf(pressure, 250000),
	})
	r, missing, err := Cgroup().Attach(ft.Instance{Scope: ft.Scope{PID: 1, CgroupV2: dir}})
	if err != nil || len(missing) > 0 {
		t.Fatal(err, missing)
	}
	defer r.Close()
	less := func() []float64 {
		row := make([]float64, groupColumns)
		if err := r.(Thrifty).ReadLess(time.Now(), row, nil); err != nil {
			t.Fatal(err)
		}
		return row
	}
	nan := math.NaN()
	readGroup(t, r)
	put(t, filepath.Join(dir, "memory.stat"), "anon 6096000\nworkingset_refault_anon 30\nworkingset_refault_file 40\n")
	wantRow(t, less(), 4096000, nan, nan, nan, nan)
	put(t, filepath.Join(dir, "memory.current"), "5001000\n")
	wantRow(t, less(), 4096000, nan, nan, nan, nan)
	put(t, filepath.Join(dir, "memory.current"), "7000000\n")
	wantRow(t, less(), 6096000, 70, nan, nan, nan)
	put(t, filepath.Join(dir, "memory.stat"), "anon 4096000\nworkingset_refault_anon 30\nworkingset_refault_file 40\n")
	wantRow(t, less(), 6096000, nan, nan, nan, nan)
	put(t, filepath.Join(dir, "memory.current"), "") // unknown: memory.stat each time
	wantRow(t, less(), 4096000, 70, nan, nan, nan)
	wantRow(t, less(), 4096000, 70, nan, nan, nan)
	put(t, filepath.Join(dir, "cpu.stat"), "usage_usec 5\nnr_periods 140\nnr_throttled 30\nthrottled_usec 7\n")
	wantRow(t, readGroup(t, r), 4096000, 70, 0.25, 0.25, 1.5)
}

func TestCgroupSaysWhatIsMissing(t *testing.T) {
	if _, _, err := Cgroup().Attach(ft.Instance{Ref: ft.Ref{ID: "web-1"}}); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("without a group: %v", err)
	}
	if _, _, err := Cgroup().Attach(ft.Instance{Scope: ft.Scope{CgroupV2: filepath.Join(t.TempDir(), "gone")}}); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("without a folder: %v", err)
	}
	dir := groupDir(t, map[string]string{"cpu.stat": "usage_usec 5\n", "cpu.pressure": "", "memory.stat": "anon 1\n"})
	r, missing, err := Cgroup().Attach(ft.Instance{Scope: ft.Scope{CgroupV2: dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for dim, word := range map[string]string{ft.DimThrottle: "nr_throttled", ft.DimRefaults: "refaults", ft.DimPressCPU: "pressure", ft.DimPressMem: "memory.pressure"} {
		if !strings.Contains(missing[dim], word) {
			t.Errorf("%s: %q has no %q", dim, missing[dim], word)
		}
	}
	if why, is := missing[ft.DimAnon]; is {
		t.Errorf("anonymous memory: %s", why)
	}
}

// realGroup makes a control group of this machine, or skips and says why.
func realGroup(t *testing.T, parent string) string {
	t.Helper()
	dir := filepath.Join(parent, "fettle-telemetry-test-"+strconv.Itoa(os.Getpid()))
	if _, err := os.Stat(filepath.Join(parent, "cgroup.procs")); err != nil {
		t.Skipf("no control groups at %s: %v", parent, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no control group may be made here: %v", err)
	}
	t.Cleanup(func() {
		for range 1000 {
			if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				return
			}
			time.Sleep(20 * time.Millisecond) // its last process is still being cleared away
		}
		t.Errorf("%s cannot be removed", dir)
	})
	return dir
}

func join(t *testing.T, dir string, c *child) {
	t.Helper()
	put(t, filepath.Join(dir, "cgroup.procs"), strconv.Itoa(c.cmd.Process.Pid))
}

func TestRealCgroupV1Memory(t *testing.T) {
	dir := realGroup(t, "/sys/fs/cgroup/memory")
	c := newChild(t)
	join(t, dir, c)
	in := c.instance()
	in.Scope.CgroupV1 = map[string]string{"memory": dir}
	r, missing, err := Cgroup().Attach(in)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.Log(missing)
	before := readGroup(t, r)[colGroupAnon]
	c.do("alloc 33554432")
	near(t, "anonymous memory of the group", readGroup(t, r)[colGroupAnon]-before, 32<<20, 2<<20)
}

func TestRealCgroupV2Pressure(t *testing.T) {
	parent := "/sys/fs/cgroup/unified"
	if _, err := os.Stat(parent); err != nil {
		parent = "/sys/fs/cgroup"
	}
	dir := realGroup(t, parent)
	c := newChild(t)
	join(t, dir, c)
	in := c.instance()
	in.Scope.CgroupV2 = dir
	r, missing, err := Cgroup().Attach(in)
	if err != nil {
		t.Skipf("the group keeps nothing: %v", err)
	}
	defer r.Close()
	if why, is := missing[ft.DimPressCPU]; is {
		t.Skip(why)
	}
	before := readGroup(t, r)[colCPUStall]
	for range 4 { // more than there are CPUs
		c.say("kid 300")
		c.hear()
	}
	c.do("burn 300")
	for deadline := time.Now().Add(20 * time.Second); readGroup(t, r)[colCPUStall] <= before; {
		if time.Now().After(deadline) {
			t.Fatal("no stall was seen")
		}
		c.do("burn 50")
	}
}

// anyGroup makes a control group that counts memory, whichever version this machine has.
func anyGroup(t *testing.T) (dir string, scope func(*ft.Scope)) {
	t.Helper()
	const v1 = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(v1); err == nil {
		dir = realGroup(t, v1)
		return dir, func(s *ft.Scope) { s.CgroupV1 = map[string]string{"memory": dir} }
	}
	dir = realGroup(t, "/sys/fs/cgroup")
	return dir, func(s *ft.Scope) { s.CgroupV2 = dir }
}

// TestGroupMembersAreFound: a process that left the session and its parent is still the instance's by its control group.
func TestGroupMembersAreFound(t *testing.T) {
	dir, scope := anyGroup(t)
	c, other := newChild(t), newChild(t)
	join(t, dir, c)
	join(t, dir, other)
	in := c.instance()
	scope(&in.Scope)
	r := attachTo(t, in)
	readRow(t, r)
	if n := len(r.(*tree).members); n != 2 {
		t.Errorf("%d members", n)
	}
	before := readRow(t, r)
	other.do("burn 200")
	after := readRow(t, r)
	if got := after[colCPU] - before[colCPU]; got < 0.18 {
		t.Errorf("%g s of CPU", got)
	}
}
