package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const output = `=== RUN   TestCPU
    cpu_test.go:7: cpu 0.3, the kernel says 0.3
--- PASS: TestCPU (0.10s)
=== RUN   TestGroups
=== RUN   TestGroups/v1
    group_test.go:9: no control groups at /sys/fs/cgroup/memory
=== RUN   TestGroups/v2
--- PASS: TestGroups (0.00s)
    --- SKIP: TestGroups/v1 (0.00s)
    --- PASS: TestGroups/v2 (0.00s)
=== RUN   TestProbes
    probes_test.go:21: no eBPF here: needs CAP_BPF and CAP_PERFMON, or root
--- SKIP: TestProbes (0.00s)
=== RUN   TestBroken
--- FAIL: TestBroken (0.00s)
FAIL
FAIL	example.org/telemetry	0.123s
=== RUN   TestCPU
--- SKIP: TestCPU (0.00s)
PASS
ok  	example.org/other	0.004s
`

// TestPlantedSkips: what was skipped or did not run is named with its reason, and what passed is not.
func TestPlantedSkips(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out := put("out", output)
	for _, test := range []struct {
		line  string
		words []string // none: it ran
	}{
		{"go example.org/telemetry TestCPU cpu", nil},
		{"# nothing\n\ngo example.org/telemetry TestCPU cpu # a comment", nil},
		{"go example.org/telemetry TestGroups/v2 memory", nil},
		{"go example.org/telemetry TestProbes network", []string{"TestProbes", "network", "was skipped", "needs CAP_BPF"}},
		{"go example.org/telemetry TestGroups memory", []string{"TestGroups/v1", "was skipped", "no control groups"}},
		{"go example.org/telemetry TestMissing memory", []string{"TestMissing", "did not run"}},
		{"go example.org/telemetry TestBroken memory", []string{"TestBroken", "FAIL"}},
		{"go example.org/other TestCPU cpu", []string{"TestCPU of example.org/other", "was skipped"}},
		{"go example.org/none TestCPU cpu", []string{"not tested"}},
		{"microvm example.org/telemetry TestCPU cpu", []string{"no output of microvm"}},
		{"go example.org/telemetry TestCPU", []string{"line 1"}},
		{"go a TestCPU cpu\ngo a TestCPU cpu", []string{"line 2", "twice"}},
	} {
		err := run([]string{put("list", test.line), "go=" + out}, &strings.Builder{})
		if (err == nil) != (test.words == nil) {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		for _, w := range test.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", test.line, err, w)
			}
		}
	}
}

// TestCommittedListIsUnderstood, and names only tests that exist.
func TestCommittedListIsUnderstood(t *testing.T) {
	const root = "../.."
	f, err := os.Open(filepath.Join(root, "test/collectors.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := read(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		_, pkg, _ := strings.Cut(m.pkg, "github.com/fettle-dev/fettle/")
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(b), "func "+m.test+"(t *testing.T)")
		}
		if !found {
			t.Errorf("%s has no %s", m.pkg, m.test)
		}
	}
}
