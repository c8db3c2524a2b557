package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fettle-dev/fettle"
)

// A state directory has one holder; who comes second is told the first one's pid, and asking takes nothing.
func TestOneHolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if Held(dir) {
		t.Fatal("a directory that does not exist is held")
	}
	f, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !Held(dir) {
		t.Error("nobody seems to hold it")
	}
	_, err = lock(dir)
	if !errors.Is(err, fettle.ErrConflict) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second holder got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if Held(dir) {
		t.Error("it is held by nobody")
	}
	if f, err = lock(dir); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestPoolsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	if ps, err := Remembered(dir); err != nil || ps != nil {
		t.Errorf("nothing is remembered as %v, %v", ps, err)
	}
	in, err := check([]fettle.Pool{{Name: "web", Listen: ":0", Image: fettle.Image{Command: []string{"x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := remember(dir, in); err != nil {
		t.Fatal(err)
	}
	out, err := Remembered(dir)
	if err != nil || len(out) != 1 || out[0].Name != "web" || out[0].Detect.Interval != in[0].Detect.Interval {
		t.Errorf("remembered %+v, %v", out, err)
	}
	if err := os.WriteFile(filepath.Join(dir, poolsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Remembered(dir); err == nil || !strings.Contains(err.Error(), poolsFile) {
		t.Errorf("a damaged file is told as %v", err)
	}
}

func TestPoolsThatClashAreRefused(t *testing.T) {
	p := func(name, listen string) fettle.Pool {
		return fettle.Pool{Name: fettle.PoolName(name), Listen: listen, Image: fettle.Image{Command: []string{"x"}}}
	}
	for _, x := range []struct {
		pools []fettle.Pool
		want  string
	}{
		{[]fettle.Pool{p("web", ":1"), p("web", ":2")}, "two of this name"},
		{[]fettle.Pool{p("web", ":1"), p("api", ":1")}, "that of pool web too"},
		{[]fettle.Pool{p("Web", ":1")}, "no pool name"},
		{[]fettle.Pool{p("web", "")}, "listen: is missing"},
	} {
		if _, err := check(x.pools); !errors.Is(err, fettle.ErrInvalid) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("want %q, got %v", x.want, err)
		}
	}
	if _, err := check([]fettle.Pool{p("web", "127.0.0.1:0"), p("api", "127.0.0.1:0")}); err != nil {
		t.Errorf("two free ports: %v", err)
	}
}

// A path that is too long for a socket is replaced by one that fits, always the same one.
func TestSocketPath(t *testing.T) {
	short, err := socketPath("/s")
	if err != nil || short != "/s/fettle.sock" {
		t.Errorf("%q, %v", short, err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	long := "/" + strings.Repeat("x", 200)
	a, err := socketPath(long)
	if err != nil {
		t.Fatal(err)
	}
	b, err := socketPath(long)
	if err != nil || a != b || len(a) > maxSocket {
		t.Errorf("%q, then %q, %v", a, b, err)
	}
	if err := os.Chmod(filepath.Dir(a), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := socketPath(long); !errors.Is(err, fettle.ErrConflict) {
		t.Errorf("a directory that is open to others is told as %v", err)
	}
}

// The socket is for its owner only; one that is left over is replaced, one that is served is not, nor is another file.
func TestUnixListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := unixListener(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := unixListener(path); !errors.Is(err, fettle.ErrConflict) {
		t.Errorf("a socket that is served is told as %v", err)
	}
	if u, ok := l.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
	l.Close()
	l, err = unixListener(path)
	if err != nil {
		t.Fatalf("a socket that is left over: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unixListener(path); !errors.Is(err, fettle.ErrConflict) {
		t.Errorf("a file of another kind is told as %v", err)
	}
}

// The record is in the state directory and the registry while a daemon runs, and in neither after it.
func TestRecord(t *testing.T) {
	dir, reg := t.TempDir(), filepath.Join(t.TempDir(), "daemons")
	undo, unlisted, err := publish(Record{PID: 7, StateDir: dir, Socket: "/s"}, reg)
	if err != nil || unlisted != nil {
		t.Fatal(err, unlisted)
	}
	if listed, _ := os.ReadDir(reg); len(listed) != 1 {
		t.Errorf("in the registry: %v", listed)
	}
	if r, err := Find(dir); err != nil || r.PID != 7 || r.Socket != "/s" {
		t.Errorf("found %+v, %v", r, err)
	}
	undo()
	if _, err := Find(dir); err == nil {
		t.Error("found after the end")
	}
	if left, _ := os.ReadDir(reg); len(left) != 0 {
		t.Errorf("left in the registry: %v", left)
	}
}

// A user without a home has no registry: the daemon is found by its state directory.
func TestRecordWithoutARegistry(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "file")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	undo, unlisted, err := publish(Record{PID: 7, StateDir: dir}, filepath.Join(none, "daemons"))
	if err != nil || unlisted == nil {
		t.Fatalf("unlisted %v, %v", unlisted, err)
	}
	if r, err := Find(dir); err != nil || r.PID != 7 {
		t.Errorf("found %+v, %v", r, err)
	}
	undo()
	if _, err := Find(dir); err == nil {
		t.Error("found after the end")
	}
}

// Directories that are made for state let others through whatever the umask, those that exist stay as they are.
func TestStateDirectoryLetsThrough(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	top := t.TempDir()
	was := filepath.Join(top, "was")
	if err := os.Mkdir(was, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(was, "a", "b")
	for range 2 {
		if err := MakeStateDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	for d, want := range map[string]os.FileMode{was: 0o700, filepath.Dir(dir): 0o711, dir: 0o711} {
		st, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %v, not %v", d, st.Mode().Perm(), want)
		}
	}
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeStateDir(file); err == nil {
		t.Error("a file is taken for a directory")
	}
}
