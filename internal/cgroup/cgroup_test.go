package cgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLocate(t *testing.T) {
	for name, c := range map[string]struct {
		own, mounts, v2 string
		v1              map[string]string
	}{
		"v2 only": {
			own:    "0::/user.slice/user-1000.slice/session-2.scope\n",
			mounts: "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
			v2:     "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope",
		},
		"hybrid": {
			own: "4:memory:/a\n3:cpu,cpuacct:/b\n2:freezer:/\n1:name=systemd:/\n0::/u\n",
			mounts: "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
				"31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"33 30 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n" +
				"34 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			v2: "/sys/fs/cgroup/unified/u",
			v1: map[string]string{
				"memory": "/sys/fs/cgroup/memory/a", "cpu": "/sys/fs/cgroup/cpu,cpuacct/b",
				"cpuacct": "/sys/fs/cgroup/cpu,cpuacct/b", "freezer": "/sys/fs/cgroup/freezer",
			},
		},
		"container sees its own part": {
			own:    "4:memory:/docker/abc\n0::/\n",
			mounts: "31 30 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			v1:     map[string]string{"memory": "/sys/fs/cgroup/memory"},
		},
		"outside of the mounted part": {
			own:    "0::/../other\n",
			mounts: `31 23 0:27 /x /mnt/with\040space rw - cgroup2 cgroup2 rw` + "\n",
			v2:     "/mnt/with space",
		},
		"nothing": {own: "", mounts: ""},
		"noise":   {own: "x\n:\n::\n", mounts: "a b - c\n - \n1 2 3 4 5 6\n"},
	} {
		v2, v1 := locate(c.own, c.mounts)
		if v2 != c.v2 || !maps.Equal(v1, c.v1) {
			t.Errorf("%s: %q and %v\nwant %q and %v", name, v2, v1, c.v2, c.v1)
		}
	}
}

func FuzzLocate(f *testing.F) {
	f.Add("4:memory:/a\n0::/u\n", "31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
	f.Fuzz(func(t *testing.T, own, mounts string) {
		_, v1 := locate(own, mounts)
		for c := range v1 {
			if !slices.Contains(wanted, c) {
				t.Errorf("controller %q", c)
			}
		}
	})
}

// tree opens a tree of its own, or skips where this machine gives none.
func tree(t *testing.T) *Tree {
	t.Helper()
	tr := Find("test-" + strconv.Itoa(os.Getpid()))
	if tr.V2() == "" && len(tr.V1Controllers()) == 0 {
		t.Skip("no control groups here: ", tr.Why())
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		for _, d := range append(slices.Collect(maps.Values(tr.v1)), tr.v2) {
			if _, err := os.Stat(d); d != "" && err == nil {
				t.Errorf("%s is left behind", d)
			}
		}
	})
	return tr
}

func group(t *testing.T, tr *Tree, id string) Group {
	t.Helper()
	g := tr.Plan(id)
	if err := g.Make(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(t, g) })
	return g
}

func drop(t *testing.T, g Group) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.Remove(ctx); err != nil {
		t.Error(err)
	}
}

// inside runs a shell script with the group joined, as a shim would.
func inside(t *testing.T, g Group, script string) *exec.Cmd {
	t.Helper()
	join := ""
	for _, d := range g.dirs() {
		join += fmt.Sprintf("echo 0 > %s/cgroup.procs || exit 9; ", d)
	}
	c := exec.Command("/bin/sh", "-c", join+script)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 2000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 10s: %s", what)
}

// TestKillForkers kills a group whose processes fork all the time.
func TestKillForkers(t *testing.T) {
	tr := tree(t)
	for _, without := range []string{"nothing", "v2", "freezer"} {
		g := group(t, tr, "forkers")
		switch without {
		case "v2":
			if len(g.V1) == 0 {
				continue
			}
			g.V2 = ""
		case "freezer":
			if len(g.V1) == 0 {
				continue
			}
			g.V2, g.V1 = "", maps.Clone(g.V1)
			delete(g.V1, "freezer")
		}
		c := inside(t, g, "for i in 1 2 3; do (while :; do (sleep 0.02); done) & done; wait")
		eventually(t, "they run", func() bool { return len(g.Procs()) > 3 })
		eventually(t, "they are dead, without "+without, func() bool {
			if err := g.Kill(); err != nil {
				t.Error(err)
			}
			return len(g.Procs()) == 0
		})
		_ = c.Wait()
		drop(t, tr.Plan("forkers"))
	}
}

func TestLists(t *testing.T) {
	tr := tree(t)
	a, b := group(t, tr, "web-1"), group(t, tr, "web-2")
	if got := tr.List(); !slices.Equal(got, []string{"web-1", "web-2"}) {
		t.Errorf("groups %v", got)
	}
	if err := tr.Close(); err != nil {
		t.Errorf("close with groups in it: %v", err)
	}
	if len(tr.List()) != 2 {
		t.Error("close removed groups that are in use")
	}
	drop(t, a)
	drop(t, a)
	if got := tr.List(); !slices.Equal(got, []string{"web-2"}) {
		t.Errorf("groups %v", got)
	}
	drop(t, b)
	// Another daemon's closing may take the parents away: making a group makes them again.
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	group(t, tr, "web-3")
}

func TestMemory(t *testing.T) {
	g := group(t, tree(t), "memory")
	if !g.HasMemory() {
		if err := g.SetMemory(64 << 20); err == nil {
			t.Error("memory was set without a controller")
		}
		t.Skip("no memory controller here")
	}
	if err := g.SetMemory(64 << 20); err != nil {
		t.Fatal(err)
	}
	// A file of 48 MiB on tmpfs counts as the group's and cannot be reclaimed.
	file := filepath.Join("/dev/shm", "fettle-"+strconv.Itoa(os.Getpid()))
	defer os.Remove(file)
	c := inside(t, g, "head -c 50331648 /dev/zero > "+file)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := g.SetMemory(16 << 20); !errors.Is(err, ErrInUse) {
		t.Errorf("less than is in use: %v, want ErrInUse", err)
	}
	if n := g.OOMKills(); n != 0 {
		t.Errorf("%d kills for want of memory already", n)
	}
	c = inside(t, g, "head -c 134217728 /dev/zero | tail -c 134217728 > /dev/null")
	_ = c.Wait()
	if n := g.OOMKills(); n == 0 {
		t.Error("128 MiB fit into 64, or the kill is not counted")
	}
}

// TestInterruptedWrites changes a limit while the runtime's preemption signals rain on the thread that does.
func TestInterruptedWrites(t *testing.T) {
	g := group(t, tree(t), "interrupted")
	if !g.HasMemory() {
		t.Skip("no memory controller here")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, stop := syscall.Gettid(), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil {
					t.Error(err)
				}
			}
		}
	})
	rounds := int64(20000)
	if testing.Short() {
		rounds = 1000 // for machines without a processor of their own
	}
	for i := range rounds {
		if err := g.SetMemory((64 + i%2) << 20); err != nil {
			t.Errorf("set memory: %v", err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

// TestReclaimThatFails asks for more memory to be given back than there is: the kernel says EAGAIN, for which the
// runtime's poller would wait for ever.
func TestReclaimThatFails(t *testing.T) {
	g := group(t, tree(t), "reclaim")
	if _, err := os.Stat(filepath.Join(g.V2, "memory.reclaim")); g.V2 == "" || err != nil {
		t.Skip("no memory.reclaim here: it needs cgroup v2 with the memory controller, and Linux 5.19")
	}
	if err := write(g.V2, "memory.reclaim", "1G"); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("reclaim 1 GiB of an empty group: %v, want EAGAIN", err)
	}
}

// TestWeights checks that the parents' weights grow with the number of instances.
func TestWeights(t *testing.T) {
	tr := tree(t)
	a := group(t, tr, "a")
	if !a.HasCPU() {
		t.Skip("no CPU controller here")
	}
	dir, v2 := a.cpu()
	file, _ := weightFile(v2, 100)
	at := func(dir string) int64 {
		n, ok := number(filepath.Join(dir, file))
		if !ok {
			t.Fatal("no weight in " + dir)
		}
		return n
	}
	if err := a.SetWeight(100); err != nil {
		t.Fatal(err)
	}
	one := at(filepath.Dir(dir))
	b := group(t, tr, "b")
	if err := b.SetWeight(300); err != nil {
		t.Fatal(err)
	}
	if got := at(filepath.Dir(dir)); got != 4*one {
		t.Errorf("parent's weight %d with weights 100 and 300, %d with 100", got, one)
	}
	if got := at(dir); got != one {
		t.Errorf("weight 100 is %d, its parent alone had %d", got, one)
	}
	drop(t, b)
	if got := at(filepath.Dir(dir)); got != one {
		t.Errorf("parent's weight %d after one is gone, want %d", got, one)
	}
}

func TestNoGroup(t *testing.T) {
	var g Group
	if err := errors.Join(g.Make(), g.Join(), g.Kill(), g.Remove(t.Context())); err != nil || !g.Empty() || g.Procs() != nil || g.HasCPU() || g.HasMemory() || g.OOMKills() != 0 {
		t.Errorf("the empty group does something: %v", err)
	}
}

func TestHardLimit(t *testing.T) {
	for _, n := range []int64{1 << 20, 64 << 20, 1 << 30, 1 << 40} {
		if h := HardLimit(n); h < n+n/8 || h < n+(8<<20) {
			t.Errorf("hard limit %d of %d", h, n)
		}
	}
	if strings.Contains(parent, "/") {
		t.Error("the parent is one level")
	}
}

// TestRefusalsAreFolded: what holds for all controllers is said once.
func TestRefusalsAreFolded(t *testing.T) {
	var r refusals
	r.add("memory", &os.PathError{Op: "mkdir", Path: "/sys/fs/cgroup/memory/fettle", Err: syscall.EACCES})
	r.add("pids", &os.PathError{Op: "mkdir", Path: "/sys/fs/cgroup/pids/fettle", Err: syscall.EROFS})
	r.add("cpu", &os.PathError{Op: "mkdir", Path: "/sys/fs/cgroup/cpu/fettle", Err: syscall.EACCES})
	if len(r) != 2 || !slices.Equal(r[0].controllers, []string{"memory", "cpu"}) || r[0].why != "permission denied" {
		t.Errorf("%+v", r)
	}
}
