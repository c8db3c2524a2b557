package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compiler is the one that the committed objects were made with: another makes others.
const compiler = "clang version 14.0.6"

// The committed objects and the Go code beside them are those of the source.
func TestObjects(t *testing.T) {
	out, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Skip("no clang here: ", err)
	}
	if !strings.Contains(string(out), compiler) {
		t.Skipf("the objects are made with %s of Debian 12; here is %s", compiler, bytes.SplitN(out, []byte("\n"), 2)[0])
	}
	if _, err := os.Stat("/usr/include/bpf/bpf_helpers.h"); err != nil {
		t.Skip("no libbpf-dev here: ", err)
	}
	dir := t.TempDir()
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(source), "//go:generate ")
	line, _, _ = strings.Cut(line, "\n")
	args := strings.Fields(line)
	args = append(args[:3], append([]string{"-output-dir", dir}, args[3:]...)...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "GOPACKAGE=bpf")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	files, err := filepath.Glob("probes_bpf*")
	if err != nil || len(files) != 4 {
		t.Fatalf("committed: %q, %v", files, err)
	}
	for _, name := range files {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		made, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, made) {
			t.Errorf("%s is not what the source gives: run go generate ./telemetry/internal/bpf and commit what it makes", name)
		}
	}
}
