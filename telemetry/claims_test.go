package telemetry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// below makes a group in one that realGroup made.
func below(t *testing.T, dir string, names ...string) string {
	t.Helper()
	for _, name := range names {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		own := dir
		t.Cleanup(func() {
			for range 1000 {
				if err := os.Remove(own); err == nil || errors.Is(err, fs.ErrNotExist) {
					return
				}
				time.Sleep(20 * time.Millisecond) // its last process is still being cleared away
			}
		})
	}
	return dir
}

// kidOf is the child's kid as an instance of its own.
func kidOf(t testing.TB, c *child) ft.Instance {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var s stat
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err == nil && parseStat(b, &s) && s.parent == c.cmd.Process.Pid {
			return ft.Instance{Ref: ft.Ref{ID: "web-2", Generation: 1}, Scope: ft.Scope{PID: s.pid}}
		}
	}
	t.Fatal("it has no kid")
	return ft.Instance{}
}

// TestSubGroupsAreTheInstances: a pod, a slice or a delegated unit has its processes in groups below its own.
func TestSubGroupsAreTheInstances(t *testing.T) {
	dir, scope := anyGroup(t)
	c, other, deep := newChild(t), newChild(t), newChild(t)
	join(t, below(t, dir, "one"), c)
	join(t, below(t, dir, "two"), other)
	join(t, below(t, dir, "three", "four"), deep)
	t.Cleanup(func() { // before the groups
		for _, c := range []*child{c, other, deep} {
			c.end()
		}
	})
	in := c.instance()
	scope(&in.Scope)
	r := attachTo(t, in)
	before := readRow(t, r)
	other.do("burn 200")
	deep.do("burn 200")
	after := readRow(t, r)
	if got := after[colCPU] - before[colCPU]; got < 0.36 {
		t.Errorf("%g s of CPU", got)
	}
	s := subjectOf(t, quick(), in)
	if _, err := s.kin.gather(time.Now()); err != nil || len(s.kin.members) != 3 {
		t.Errorf("working set: %d members, %v", len(s.kin.members), err)
	}

	// One that joins later in a group that is new.
	late := newChild(t)
	join(t, below(t, dir, "late"), late)
	t.Cleanup(late.end)
	readRow(t, r)
	now := time.Now().Add(groupsEvery)
	row := make([]float64, procColumns)
	if err := r.Read(now, row, nil); err != nil || len(r.(*tree).members) != 4 {
		t.Errorf("%d members, %v", len(r.(*tree).members), err)
	}
}

// two are instances of one source, with readers of /proc and of working sets.
type two struct {
	source  ft.Source
	readers [2]ft.Reader
	kins    [2]*kin
}

func newTwo(t *testing.T, ins ...ft.Instance) *two {
	t.Helper()
	w, c := &two{source: ProcFS()}, &census{load: closed, proc: closed}
	for i, in := range ins {
		r, _, err := w.source.Attach(in)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		k, err := newKin(c, in)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.close)
		w.readers[i], w.kins[i] = r, k
		readRow(t, r) // the first takes all that is not claimed yet
		if _, err := k.gather(time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// cpu is what both used so far.
func (w *two) cpu(t *testing.T) (used [2]float64) {
	t.Helper()
	for i, r := range w.readers {
		used[i] = readRow(t, r)[colCPU]
	}
	return used
}

// used fails unless the second used so much more, and the first nothing of it.
func (w *two) used(t *testing.T, before [2]float64, want float64) {
	t.Helper()
	after := w.cpu(t)
	near(t, "the second's CPU", after[1]-before[1], want, 0.25) // Go's own start and collector too
	if first := after[0] - before[0]; first > 0.1 {
		t.Errorf("the first used %g s for the second", first)
	}
}

func (w *two) members(t *testing.T, want ...int) {
	t.Helper()
	for i, k := range w.kins {
		if _, err := k.gather(time.Now()); err != nil {
			t.Fatal(err)
		}
		if len(k.members) != want[i] {
			t.Errorf("working set %d: %d members, want %d", i+1, len(k.members), want[i])
		}
	}
}

// TestAnInstanceWithinAnother: a child that is an instance of its own counts for that one alone, while it runs and when it
// has ended and its parent got its counters.
func TestAnInstanceWithinAnother(t *testing.T) {
	c := newChild(t)
	c.do("kid 0")
	c.do("burnt")
	c.do("kiddo kid 0") // in the first's session, and a descendant of both
	c.do("kiddo burnt")
	w := newTwo(t, c.instance(), kidOf(t, c))
	late, _, err := w.source.Attach(c.instance()) // when the kid is another's already
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	first := readRow(t, late)[colCPU]
	before := w.cpu(t)
	c.do("kiddo burn 300")
	c.do("kiddo kiddo burn 300")
	w.used(t, before, 0.6)
	w.members(t, 1, 2)
	c.do("kiddo kid 0") // one more, born since
	c.do("kiddo burnt")
	before = w.cpu(t)
	c.do("kiddo kiddo burn 300")
	w.used(t, before, 0.3)
	before = w.cpu(t)
	readRow(t, late)
	c.do("reap")
	if after := w.cpu(t); after[0]-before[0] > 0.1 {
		t.Errorf("when the second had ended, the first had used %g s more", after[0]-before[0])
	}
	if used := readRow(t, late)[colCPU] - first; used > 0.2 {
		t.Errorf("attached to later, the first used %g s", used)
	}
}

// TestADescendantInAnothersGroup: whose group it is in says whose it is.
func TestADescendantInAnothersGroup(t *testing.T) {
	dir, scope := anyGroup(t)
	inner := below(t, dir, "inner")
	c, other := newChild(t), newChild(t)
	t.Cleanup(func() { c.end(); other.end() })
	c.do("kid 0")
	c.do("burnt")
	kid := kidOf(t, c)
	join(t, dir, other)
	in := other.instance()
	in.Ref.ID = "web-2"
	scope(&in.Scope)
	w := newTwo(t, c.instance(), in)
	w.members(t, 2, 1)
	put(t, filepath.Join(inner, "cgroup.procs"), strconv.Itoa(kid.Scope.PID))
	row := make([]float64, procColumns)
	for i, r := range w.readers {
		if err := r.Read(time.Now().Add(groupsEvery), row, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := w.kins[i].gather(time.Now().Add(groupsEvery)); err != nil {
			t.Fatal(err)
		}
	}
	before := w.cpu(t)
	c.do("kiddo burn 300")
	w.used(t, before, 0.3)
	w.members(t, 1, 2)
}

// TestNetworkOfGroupsBelow: what is in a group below the instance's own counts for it too.
func TestNetworkOfGroupsBelow(t *testing.T) {
	p := newProbes(t)
	address := echoing(t, "127.0.0.1:0")
	dir := t.TempDir()
	c, guest := newChild(t), newChild(t)
	in := c.instance()
	in.Scope.CgroupV2 = dir
	r := attachNetwork(t, p, in)
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "below", "cgroup.procs"), strconv.Itoa(guest.cmd.Process.Pid)+"\n")
	p.groups()
	before := netRow(t, r)
	guest.do("net calls " + address + " 10")
	if got := netRow(t, r)[colOutCalls] - before[colOutCalls]; got != 10 {
		t.Errorf("%g calls, made 10", got)
	}
}

// TestNetworkOfAnInstanceWithinAnother: a child that is an instance of its own counts for that one alone, with the child
// that it has, also when the parent was attached to before.
func TestNetworkOfAnInstanceWithinAnother(t *testing.T) {
	p := newProbes(t)
	address := echoing(t, "127.0.0.1:0")
	c := newChild(t)
	c.do("kid 0")
	c.do("burnt")
	c.do("kiddo kid 0")
	c.do("kiddo burnt")
	outer := attachNetwork(t, p, c.instance())
	grown := func(r ft.Reader, before []float64) float64 { return netRow(t, r)[colOutCalls] - before[colOutCalls] }
	until := func(r ft.Reader) (others float64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; {
			mine, all := netRow(t, r), netRow(t, outer)
			c.do("kiddo kidnet calls " + address + " 10")
			if grown(r, mine) == 10 {
				return grown(outer, all)
			}
			if time.Now().After(end) {
				t.Fatal("the calls were not counted")
			}
		}
	}
	until(outer) // the kid's kid is its, as long as nobody else is there
	inner := attachNetwork(t, p, kidOf(t, c))
	if got := until(inner); got != 0 {
		t.Errorf("%g calls count for both", got)
	}
}
