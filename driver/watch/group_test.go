package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
)

// groupsHere makes control groups of the test's own in the tree that units stand in, and in that of the memory
// controller where there is one, and removes them at the end.
func groupsHere(t *testing.T) (root string, make func(rel string) string, join func(rel string, pid int)) {
	t.Helper()
	hs, err := hierarchies()
	if err != nil {
		t.Skip(err)
	}
	root = fmt.Sprintf("fettle-test-%d.slice", os.Getpid())
	var dirs []string
	var trees []hierarchy
	for _, h := range hs {
		if !h.systemd && !slices.Contains(h.controllers, "memory") {
			continue
		}
		if err := os.Mkdir(filepath.Join(h.dir, root), 0o755); err != nil {
			if h.systemd {
				t.Skipf("control groups cannot be made here: %v", err)
			}
			continue
		}
		trees, dirs = append(trees, h), append(dirs, filepath.Join(h.dir, root))
	}
	t.Cleanup(func() {
		slices.SortFunc(dirs, func(a, b string) int { return len(b) - len(a) })
		for _, d := range dirs {
			for range 100 {
				if os.Remove(d) == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	})
	make = func(rel string) string {
		t.Helper()
		for _, h := range trees {
			d := filepath.Join(h.dir, root, rel)
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, d)
		}
		return "/" + root + "/" + rel
	}
	join = func(rel string, pid int) {
		t.Helper()
		for _, h := range trees {
			if err := os.WriteFile(filepath.Join(h.dir, root, rel, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root, make, join
}

// inGroup starts a server that is a child of its own shell, both in the group.
func inGroup(t *testing.T, join func(string, int), rel string) *exec.Cmd {
	t.Helper()
	c := exec.Command("sh", "-c", "read x; sleep 1000 & exec tail -f /dev/null")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL); _ = c.Wait() })
	join(rel, c.Process.Pid)
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUnitsAreInstances(t *testing.T) {
	_, mk, join := groupsHere(t)
	one, two := mk("worker@1.service"), mk("worker@2.service")
	mk("other.service")
	a := inGroup(t, join, "worker@1.service")
	inGroup(t, join, "other.service")
	o := opened(t, ft.Watch{Unit: "worker@*"}, t.TempDir())
	o.until("the first unit", func() bool { return slices.Equal(o.refs(), []string{fmt.Sprintf("web-1=%d", a.Process.Pid)}) })
	in := o.list()[0]
	if in.Label != "worker@1.service (tail)" {
		t.Errorf("label %q", in.Label)
	}
	if !strings.HasSuffix(in.Scope.CgroupV2, one) && !strings.HasSuffix(in.Scope.CgroupV1["memory"], one) {
		t.Errorf("its groups are not told: %+v", in.Scope)
	}
	b := inGroup(t, join, "worker@2.service")
	o.hears(fmt.Sprintf("found web-2 pid %d", b.Process.Pid))

	// The first is restarted: the same unit, another process.
	_ = syscall.Kill(-a.Process.Pid, syscall.SIGKILL)
	o.hears("web-1 killed by signal 9")
	again := inGroup(t, join, "worker@1.service")
	o.hears(fmt.Sprintf("found web-1/2 pid %d", again.Process.Pid))
	_ = two
}

func TestGroupsByPathAreInstances(t *testing.T) {
	root, mk, join := groupsHere(t)
	mk("a")
	mk("a/inner")
	mk("b")
	a, b := inGroup(t, join, "a/inner"), inGroup(t, join, "b")
	o := opened(t, ft.Watch{Cgroup: "/" + root + "/*"}, t.TempDir())
	want := []string{fmt.Sprintf("web-1=%d", a.Process.Pid), fmt.Sprintf("web-2=%d", b.Process.Pid)}
	o.until("both groups", func() bool {
		is := o.refs()
		slices.Sort(is)
		return slices.Equal(is, want)
	})
	if l := o.list()[0].Label; l != "/"+root+"/a (tail)" {
		t.Errorf("label %q", l)
	}
}

func TestTheGroupThatHoldsFettleIsNotWatched(t *testing.T) {
	o := opened(t, ft.Watch{Cgroup: "/"}, t.TempDir())
	o.until("it being said", func() bool { return strings.Contains(o.Note(), "holds Fettle itself, and is not watched") })
	if ins := o.list(); len(ins) != 0 {
		t.Errorf("listed %v", ins)
	}
}

func TestWhichUnitsFit(t *testing.T) {
	for _, c := range []struct {
		pattern, unit string
		want          bool
	}{
		{"nginx", "nginx.service", true},
		{"nginx.service", "nginx.service", true},
		{"worker@*", "worker@7.service", true},
		{"worker@*.service", "worker@7.service", true},
		{"worker@*", "worker@7.scope", true},
		{"*", "cron.service", true},
		{"*", "system.slice", false},
		{"system.slice", "system.slice", true},
		{"docker-*.scope", "docker-1a2b.scope", true},
		{"nginx", "nginx-exporter.service", false},
		{"*", "cron.socket", false},
		{"*", "anything", false},
	} {
		if got := unitFits(c.pattern, c.unit); got != c.want {
			t.Errorf("%q and %q: %t, want %t", c.pattern, c.unit, got, c.want)
		}
	}
}

func TestMountsOfAllLayouts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []hierarchy
	}{
		{"unified", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n", []hierarchy{{"/sys/fs/cgroup", nil, true}}},
		{
			"hybrid",
			"tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n",
			[]hierarchy{
				{"/sys/fs/cgroup/unified", nil, true},
				{"/sys/fs/cgroup/systemd", []string{}, true},
				{"/sys/fs/cgroup/cpu,cpuacct", []string{"cpu", "cpuacct"}, false},
			},
		},
		{"escaped", "cgroup2 /mnt/a\\040b cgroup2 rw 0 0\n", []hierarchy{{"/mnt/a b", nil, true}}},
		{"none", "proc /proc proc rw 0 0\nbad\n", nil},
	} {
		if diff := cmp.Diff(c.want, parseMounts([]byte(c.text)), cmp.AllowUnexported(hierarchy{})); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestKillsForWantOfMemoryAreCounted(t *testing.T) {
	dir := t.TempDir()
	for f, text := range map[string]string{"memory.events": "low 0\nhigh 2\noom 3\noom_kill 3\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		g    group
		want uint64
	}{{group{v2: dir}, 3}, {group{v1: map[string]string{"memory": dir}}, 5}, {group{}, 0}, {group{v2: "/nowhere"}, 0}} {
		if got := c.g.oomKills(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.g, got, c.want)
		}
	}
}
