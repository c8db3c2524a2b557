package report

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is where the benchmark ran.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// Load averages of the last minute. What else ran is in the values too.
	LoadBefore float64 `json:"load_before"`
	LoadAfter  float64 `json:"load_after"`
}

// New begins a report: commit, date, machine. It is run in the repository.
func New(bench string) *Report {
	return &Report{
		Bench: bench, Commit: commit(), Date: time.Now().UTC().Truncate(time.Second),
		Machine: Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: memory(), Kernel: kernel(), Go: runtime.Version(), LoadBefore: Load()},
	}
}

// End notes the load at the end.
func (r *Report) End() { r.Machine.LoadAfter = Load() }

// Load is the load average of the last minute, 0 where it cannot be read.
func Load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(b, []byte(" "))
	v, _ := strconv.ParseFloat(string(first), 64) // 0 is "not known"
	return v
}

// commit is that of the work tree, with "-dirty" where files differ from it.
func commit() string {
	if out := First("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"); out != "" {
		return out
	}
	return "unknown"
}

// First is the first line that a program writes, "" where it fails.
func First(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// ModuleVersion is the version of a module that the calling program was built with, "" where it is not in it.
func ModuleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// field is the value of the first line "name : value" of a file, "unknown" where there is none.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memory() string {
	kib, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	n, err := strconv.ParseFloat(kib, 64)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f GiB", n/(1<<20))
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
