package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrInUse is why a limit is not lowered: more than that is in use. A v1 kernel refuses, a v2 kernel would kill.
var ErrInUse = errors.New("more than that is in use")

// Group is the control group of one instance: absolute directories, kept in its record. The zero Group does nothing.
type Group struct {
	V2 string            `json:"v2,omitempty"`
	V1 map[string]string `json:"v1,omitempty"`
}

// Empty tells whether there is no group at all.
func (g Group) Empty() bool { return g.V2 == "" && len(g.V1) == 0 }

// dirs lists the directories, v2 first, each once, those of v1 in the order of the controllers' use.
func (g Group) dirs() []string {
	var ds []string
	if g.V2 != "" {
		ds = append(ds, g.V2)
	}
	for _, c := range wanted {
		if d := g.V1[c]; d != "" && !slices.Contains(ds, d) {
			ds = append(ds, d)
		}
	}
	return ds
}

// Make creates the group's directories, and the parents' v2 controllers where another process removed the parents.
func (g Group) Make() error {
	for _, d := range g.dirs() {
		err := os.MkdirAll(d, 0o755)
		if errors.Is(err, fs.ErrNotExist) { // another daemon swept the empty parent away in between
			err = os.MkdirAll(d, 0o755)
		}
		if err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
	}
	if g.V2 == "" {
		return nil
	}
	have := keep(words(filepath.Join(filepath.Dir(filepath.Dir(g.V2)), "cgroup.controllers")))
	for _, d := range []string{filepath.Dir(filepath.Dir(g.V2)), filepath.Dir(g.V2)} {
		// Controllers that could not be enabled when the tree was opened are said there; the group works without.
		if err := enable(d, have); err != nil {
			break
		}
	}
	return nil
}

// Join puts the calling process into the group.
func (g Group) Join() error {
	for _, d := range g.dirs() {
		if err := write(d, "cgroup.procs", "0"); err != nil {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	return nil
}

// Procs lists the processes of the group and of groups below it.
func (g Group) Procs() []int {
	ds := g.dirs()
	if len(ds) == 0 {
		return nil
	}
	var pids []int
	for _, d := range subtree(ds[0]) {
		pids = append(pids, procs(d)...)
	}
	return pids
}

// Kill sends SIGKILL to all processes of the group: at once by cgroup.kill (v2), else frozen so that none can fork
// away (v1 freezer), else one by one, which needs repeating until Procs is empty.
func (g Group) Kill() error {
	if g.V2 != "" {
		if err := write(g.V2, "cgroup.kill", "1"); err == nil {
			return nil
		}
	}
	freezer := g.V1["freezer"]
	if freezer != "" {
		if err := write(freezer, "freezer.state", "FROZEN"); err != nil {
			freezer = ""
		}
	}
	var errs []error
	for _, pid := range g.Procs() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
		}
	}
	if freezer != "" {
		// Frozen processes die of the signal only once they thaw.
		errs = append(errs, write(freezer, "freezer.state", "THAWED"))
	}
	return errors.Join(errs...)
}

// Remove removes the group and groups below it. Processes that are still being reaped keep it busy for a moment, for
// which it waits until ctx ends. Already gone is success.
func (g Group) Remove(ctx context.Context) error {
	cpu, v2 := g.cpu() // v2 is told by the files that are about to go
	for _, d := range g.dirs() {
		if err := remove(ctx, d); err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
	}
	reweigh(cpu, v2)
	return nil
}

func remove(ctx context.Context, dir string) error {
	for {
		var err error
		ds := subtree(dir)
		for _, d := range slices.Backward(ds) {
			if e := os.Remove(d); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = e
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// OOMKills is how many processes of the group the kernel killed for want of memory.
func (g Group) OOMKills() int {
	if g.V2 != "" {
		if n, ok := field(filepath.Join(g.V2, "memory.events"), "oom_kill"); ok {
			return n
		}
	}
	if d := g.V1["memory"]; d != "" {
		n, _ := field(filepath.Join(d, "memory.oom_control"), "oom_kill")
		return n
	}
	return 0
}

// memory is the directory of the memory controller and whether it is v2; empty without one.
func (g Group) memory() (dir string, v2 bool) { return g.controller("memory", "memory.high") }

// cpu is the directory of the CPU controller and whether it is v2; empty without one.
func (g Group) cpu() (dir string, v2 bool) { return g.controller("cpu", "cpu.weight") }

func (g Group) controller(name, file string) (dir string, v2 bool) {
	if g.V2 != "" {
		if _, err := os.Stat(filepath.Join(g.V2, file)); err == nil {
			return g.V2, true
		}
	}
	return g.V1[name], false
}

// HasMemory tells whether memory can be limited.
func (g Group) HasMemory() bool { d, _ := g.memory(); return d != "" }

// HasCPU tells whether CPU weights can be given.
func (g Group) HasCPU() bool { d, _ := g.cpu(); return d != "" }

// HardLimit is where the kernel stops a group whose memory setting is n bytes: an eighth above, 8 MiB at least. Up to
// there Fettle's own guard has time to act; a v2 kernel reclaims from n on.
func HardLimit(n int64) int64 { return n + max(n/8, 8<<20) }

// SetMemory sets the memory setting to n bytes: memory.high and, an eighth above, memory.max on v2; the soft limit
// and, an eighth above, the limit on v1. It gives [ErrInUse] when more than the hard limit is in use.
func (g Group) SetMemory(n int64) error {
	dir, v2 := g.memory()
	if dir == "" {
		return fmt.Errorf("set memory: no memory controller: %w", fs.ErrNotExist)
	}
	soft, hard := "memory.soft_limit_in_bytes", "memory.limit_in_bytes"
	if v2 {
		soft, hard = "memory.high", "memory.max"
		if used, ok := number(filepath.Join(dir, "memory.current")); ok && used > HardLimit(n) {
			return fmt.Errorf("set memory to %d: %d bytes used: %w", n, used, ErrInUse)
		}
	}
	if err := write(dir, hard, strconv.FormatInt(HardLimit(n), 10)); err != nil {
		if errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("set memory to %d: %w", n, ErrInUse)
		}
		return fmt.Errorf("set memory to %d: %w", n, err)
	}
	if err := write(dir, soft, strconv.FormatInt(n, 10)); err != nil {
		return fmt.Errorf("set memory to %d: %w", n, err)
	}
	return nil
}

// SetWeight sets the CPU weight, 1 to 10000 with 100 as the default: cpu.weight on v2, cpu.shares (1024 for 100) on v1.
// The parents get the sum of their children's, so that a pool's share of a busy machine grows with its instances.
func (g Group) SetWeight(w int) error {
	dir, v2 := g.cpu()
	if dir == "" {
		return fmt.Errorf("set CPU weight: no CPU controller: %w", fs.ErrNotExist)
	}
	file, v := weightFile(v2, w)
	if err := write(dir, file, v); err != nil {
		return fmt.Errorf("set CPU weight to %d: %w", w, err)
	}
	reweigh(dir, v2)
	return nil
}

func weightFile(v2 bool, w int) (file, value string) {
	if v2 {
		return "cpu.weight", strconv.Itoa(min(max(w, 1), 10000))
	}
	return "cpu.shares", strconv.Itoa(min(max(w*1024/100, 2), 262144))
}

// reweigh gives both parents of a group's CPU directory the sum of their children's weights. It is a matter of fairness
// towards the rest of the machine, so what fails here is no failure of what was asked.
func reweigh(dir string, v2 bool) {
	if dir == "" {
		return
	}
	file, least, most := "cpu.shares", int64(1024), int64(262144)
	if v2 {
		file, least, most = "cpu.weight", 100, 10000
	}
	for _, p := range []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		es, err := os.ReadDir(p)
		if err != nil {
			return
		}
		sum := int64(0)
		for _, e := range es {
			if e.IsDir() {
				n, _ := number(filepath.Join(p, e.Name(), file))
				sum += n
			}
		}
		if err := write(p, file, strconv.FormatInt(min(max(sum, least), most), 10)); err != nil {
			return
		}
	}
}

// subtree lists dir and the groups below it, parents first.
func subtree(dir string) []string {
	var ds []string
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error { // what vanishes meanwhile is gone
		if err == nil && e.IsDir() {
			ds = append(ds, p)
		}
		return nil
	})
	return ds
}

func procs(dir string) []int {
	var pids []int
	for _, w := range words(filepath.Join(dir, "cgroup.procs")) {
		if pid, err := strconv.Atoi(w); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// write writes a control file by a raw system call: the runtime's poller would wait for ever on an EAGAIN. Changing a
// memory limit takes time and is interrupted by the signals with which the runtime preempts: it is then begun again.
func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	fd, err := -1, error(syscall.EINTR)
	for errors.Is(err, syscall.EINTR) {
		fd, err = syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	err = syscall.EINTR
	for errors.Is(err, syscall.EINTR) {
		_, err = syscall.Write(fd, []byte(value))
	}
	if e := syscall.Close(fd); err == nil {
		err = e
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func field(file, name string) (int, bool) {
	ws := words(file)
	for i := 0; i+1 < len(ws); i += 2 {
		if ws[i] == name {
			n, err := strconv.Atoi(ws[i+1])
			return n, err == nil
		}
	}
	return 0, false
}

func number(file string) (int64, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}
