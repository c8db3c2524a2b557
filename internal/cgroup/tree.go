// Package cgroup finds the control groups that this process may use and makes one for each instance.
//
// Groups stand under one parent, fettle/NAME below the group that this process itself runs in, in each hierarchy:
//
//	v2  <mount>/<own path>/fettle/NAME/ID                 where it is delegated to us
//	v1  <mount of the controller>/<own path>/fettle/NAME/ID
//
// A machine may have both: on a hybrid one the v2 tree has no controllers, but still tells pressure and kills a whole
// group at once, while memory and CPU are v1's. Whatever is missing is left out; [Tree.Why] says why.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// parent is the name of the directory under which all of Fettle's groups stand.
const parent = "fettle"

// leaf is the group that the daemon moves itself into: v2 lets a group have processes or controllers for children,
// not both.
const leaf = "fettle-daemon"

// wanted are the controllers that are of use, in the order in which v1 hierarchies are asked for members.
var wanted = []string{"memory", "cpu", "pids", "freezer", "cpuacct"}

// Tree is where the groups of one state directory are made. It is safe for concurrent use.
type Tree struct {
	v2  string            // absolute directory; empty where v2 may not be used
	v1  map[string]string // controller to absolute directory
	why []string
}

// Find looks for the groups that this process may make below its own, and makes the parent NAME. It never fails: a
// machine that gives nothing has an empty Tree.
func Find(name string) *Tree {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return &Tree{why: []string{err.Error()}}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return &Tree{why: []string{err.Error()}}
	}
	v2, v1 := locate(string(own), string(mounts))
	t := &Tree{v1: map[string]string{}}
	if v2 == "" {
		t.say("v2: not mounted")
	} else {
		if filepath.Base(v2) == leaf {
			v2 = filepath.Dir(v2)
		}
		t.openV2(v2, name)
	}
	if len(v1) == 0 {
		t.say("v1: not mounted")
	}
	var refused refusals
	for _, c := range wanted {
		dir, ok := v1[c]
		if !ok {
			continue
		}
		dir = filepath.Join(dir, parent, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			refused.add(c, err)
			continue
		}
		t.v1[c] = dir
	}
	for _, r := range refused {
		t.say("v1: no group can be made for %s: %s", strings.Join(r.controllers, ", "), r.why)
	}
	t.sweep()
	return t
}

// refusals are reasons why there is no group, each with the controllers that it holds for.
type refusals []refusal

type refusal struct {
	why         string
	controllers []string
}

func (r *refusals) add(controller string, err error) {
	why := err.Error()
	if e, is := errors.AsType[*fs.PathError](err); is {
		why = e.Err.Error() // the paths differ, the reason does not
	}
	for i := range *r {
		if (*r)[i].why == why {
			(*r)[i].controllers = append((*r)[i].controllers, controller)
			return
		}
	}
	*r = append(*r, refusal{why, []string{controller}})
}

// sweep removes the empty parents that killed daemons of other state directories left. One that is still in use is made
// again by its owner's next group.
func (t *Tree) sweep() {
	dirs := slices.Collect(maps.Values(t.v1))
	if t.v2 != "" {
		dirs = append(dirs, t.v2)
	}
	for _, own := range dirs {
		es, err := os.ReadDir(filepath.Dir(own))
		if err != nil {
			continue
		}
		for _, e := range es {
			if d := filepath.Join(filepath.Dir(own), e.Name()); e.IsDir() && d != own {
				_ = os.Remove(d) // the kernel refuses where anything is in it
			}
		}
	}
}

func (t *Tree) say(format string, a ...any) { t.why = append(t.why, fmt.Sprintf(format, a...)) }

// Why tells what could not be used and for what reason, one sentence each, which begins with "v1: " or "v2: " where it is
// about these hierarchies alone.
func (t *Tree) Why() []string { return t.why }

// V2 is the v2 directory under which groups are made, empty where there is none.
func (t *Tree) V2() string { return t.v2 }

// V2Controllers are those of memory, cpu and pids that groups in the v2 tree have.
func (t *Tree) V2Controllers() []string {
	if t.v2 == "" {
		return nil
	}
	return keep(words(filepath.Join(t.v2, "cgroup.subtree_control")))
}

// V1Controllers are those that groups in v1 hierarchies have, sorted.
func (t *Tree) V1Controllers() []string {
	var cs []string
	for c := range t.v1 {
		cs = append(cs, c)
	}
	slices.Sort(cs)
	return cs
}

func (t *Tree) openV2(base, name string) {
	dir := filepath.Join(base, parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.say("v2: not delegated: %v", err)
		return
	}
	t.v2 = dir
	have := keep(words(filepath.Join(base, "cgroup.controllers")))
	if len(have) == 0 {
		t.say("v2: no controllers in %s", base)
		return
	}
	if err := enable(base, have); err != nil {
		if moved := vacate(base); moved != nil {
			t.say("v2: controllers cannot be enabled: %v; %v", err, moved)
			return
		}
		if err := enable(base, have); err != nil {
			t.say("v2: controllers cannot be enabled: %v", err)
			return
		}
	}
	if err := t.enableBelow(have); err != nil {
		t.say("v2: %v", err)
	}
}

func (t *Tree) enableBelow(have []string) error {
	for _, d := range []string{filepath.Dir(t.v2), t.v2} {
		if err := enable(d, have); err != nil {
			return err
		}
	}
	return nil
}

// enable gives the children of dir the controllers.
func enable(dir string, controllers []string) error {
	on := words(filepath.Join(dir, "cgroup.subtree_control"))
	var add []string
	for _, c := range controllers {
		if !slices.Contains(on, c) {
			add = append(add, "+"+c)
		}
	}
	if len(add) == 0 {
		return nil
	}
	return write(dir, "cgroup.subtree_control", strings.Join(add, " "))
}

// vacate moves this program's processes out of their group into a leaf of it. It refuses when others are there too.
func vacate(base string) error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	pids := procs(base)
	for _, pid := range pids {
		if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err != nil || exe != self {
			return fmt.Errorf("process %d shares the group %s", pid, base)
		}
	}
	to := filepath.Join(base, leaf)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, pid := range pids {
		if err := write(to, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// Plan names the group of an instance without making it.
func (t *Tree) Plan(id string) Group {
	g := Group{}
	if t.v2 != "" {
		g.V2 = filepath.Join(t.v2, id)
	}
	for c, dir := range t.v1 {
		if g.V1 == nil {
			g.V1 = map[string]string{}
		}
		g.V1[c] = filepath.Join(dir, id)
	}
	return g
}

// List names the groups that exist under the parent, sorted.
func (t *Tree) List() []string {
	var names []string
	add := func(dir string) {
		es, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, e := range es {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	if t.v2 != "" {
		add(t.v2)
	}
	for _, c := range t.V1Controllers() {
		add(t.v1[c])
	}
	slices.Sort(names)
	return names
}

// Close removes the parents that hold no group any more.
func (t *Tree) Close() error {
	var errs []error
	drop := func(dir string) {
		for _, d := range []string{dir, filepath.Dir(dir)} {
			err := os.Remove(d)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				if !populated(d) {
					errs = append(errs, fmt.Errorf("remove control group: %w", err))
				}
				return
			}
		}
	}
	if t.v2 != "" {
		drop(t.v2)
	}
	for _, c := range t.V1Controllers() {
		drop(t.v1[c])
	}
	return errors.Join(errs...)
}

// populated tells whether the directory has child groups.
func populated(dir string) bool {
	es, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(es, fs.DirEntry.IsDir)
}

// locate finds this process's own group in each hierarchy. own is /proc/self/cgroup (cgroups(7)), mounts is
// /proc/self/mountinfo (proc_pid_mountinfo(5)). Where only a part of a hierarchy is mounted, as in a container, and
// this process's group is not in it, the mount point stands for it.
func locate(own, mounts string) (v2 string, v1 map[string]string) {
	paths := map[string]string{}
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[1] == "" {
			paths[""] = f[2]
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			paths[c] = f[2]
		}
	}
	v1 = map[string]string{}
	s := bufio.NewScanner(strings.NewReader(mounts))
	for s.Scan() {
		head, tail, ok := strings.Cut(s.Text(), " - ")
		h, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(h) < 5 || len(t) < 3 {
			continue
		}
		root, point := unescape(h[3]), unescape(h[4])
		switch t[0] {
		case "cgroup2":
			if p, ok := paths[""]; ok && v2 == "" {
				v2 = below(point, root, p)
			}
		case "cgroup":
			for c := range strings.SplitSeq(t[2], ",") {
				if p, ok := paths[c]; ok && slices.Contains(wanted, c) && v1[c] == "" {
					v1[c] = below(point, root, p)
				}
			}
		}
	}
	return v2, v1
}

func below(point, root, path string) string {
	rel, err := filepath.Rel(root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return point
	}
	return filepath.Join(point, rel)
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	for _, e := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

// keep is the part of the controllers that instances need.
func keep(cs []string) []string {
	return slices.DeleteFunc(cs, func(c string) bool { return c != "memory" && c != "cpu" && c != "pids" })
}

func words(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}
