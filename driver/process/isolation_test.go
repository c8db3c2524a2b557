package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("FETTLE_TEST_SECRET", "do not pass")
	t.Setenv("FETTLE_TEST_PASSED", "pass")
	w := newWorld(t)
	p := w.pool("serve", "--listen=:${PORT}", "--data=$FETTLE_DATA", "$$HOME $PORTX $1 100%")
	p.Image.Pass = []string{"FETTLE_TEST_PASSED"}
	p.Image.Env = map[string]string{"COLOUR": "blue", "BIND": "127.0.0.1:$PORT"}
	p.Specializations = []ft.Specialization{{Name: "eu", Env: map[string]string{"COLOUR": "red"}}}
	p.Initial = "eu"
	in := w.start(&p, 1)
	env := strings.Split(get(t, in, "/env"), "\n")
	_, port, _ := strings.Cut(in.Endpoint.Address, ":")
	for _, want := range []string{
		"PORT=" + port, "BIND=127.0.0.1:" + port, "COLOUR=red", "FETTLE_TEST_PASSED=pass", "FETTLE_INSTANCE=web-1",
		"FETTLE_GENERATION=1", "FETTLE_POOL=web", "FETTLE_DATA=" + w.data(in), "FETTLE_SPECIALIZATION=eu", "PATH=" + os.Getenv("PATH"),
	} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment lacks %s: %q", want, env)
		}
	}
	if strings.Contains(strings.Join(env, "\n"), "FETTLE_TEST_SECRET") {
		t.Error("a variable of the daemon was passed without being asked for")
	}
	args := strings.Split(get(t, in, "/args"), "\n")
	if want := []string{"--listen=:" + port, "--data=" + w.data(in), "$$HOME $PORTX $1 100%"}; !slices.Equal(args[3:], want) {
		t.Errorf("arguments %q, want %q", args[3:], want)
	}
	if got := get(t, in, "/cwd"); got != w.data(in) {
		t.Errorf("it works in %s, want its data directory", got)
	}
}

// status runs a program that shows what its process is allowed, and gives the lines by name.
func (w *world) status(change func(*ft.Pool)) map[string]string {
	w.t.Helper()
	p := w.pool("")
	p.Image.Command = []string{"/bin/sh", "-c", "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Sig|NSsid|NSpgid)' /proc/self/status; exit 1"}
	if change != nil {
		change(&p)
	}
	_, err := w.d.Start(w.t.Context(), &p, ref(1, 1), ft.Work{})
	var se *ft.StartError
	if !errors.As(err, &se) {
		w.t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(se.Output) {
		k, v, _ := strings.Cut(line, ":")
		lines[k] = strings.Join(strings.Fields(v), " ")
	}
	if lines["Uid"] == "" {
		w.t.Fatalf("no status: %v", se)
	}
	return lines
}

func TestPrivileges(t *testing.T) {
	// What the daemon ignores, as under nohup, its instances must not.
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	w := newWorld(t)
	s := w.status(nil)
	want := map[string]string{
		"NoNewPrivs": "1", "CapInh": zeros, "CapPrm": zeros, "CapEff": zeros, "CapAmb": zeros,
		"SigBlk": zeros, "SigIgn": zeros,
	}
	if fact(t, w.d, "capability bounding set") {
		want["CapBnd"] = zeros
	}
	for k, v := range want {
		if s[k] != v {
			t.Errorf("%s is %s, want %s", k, s[k], v)
		}
	}
}

const zeros = "0000000000000000"

func TestUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("no user nobody: ", err)
	}
	if os.Geteuid() != 0 {
		p := w.pool("serve")
		p.Image.User = "root"
		if _, err := w.d.Start(t.Context(), &p, ref(1, 1), ft.Work{}); !errors.Is(err, ft.ErrUnavailable) {
			t.Errorf("another user without privilege: %v, want ErrUnavailable", err)
		}
		return
	}
	s := w.status(func(p *ft.Pool) { p.Image.User = "nobody" })
	same := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
	if s["Uid"] != same(nobody.Uid) || s["Gid"] != same(nobody.Gid) || s["Groups"] != nobody.Gid || s["CapPrm"] != zeros {
		t.Errorf("runs as %v", s)
	}
	for _, shape := range []string{"serve", "socket"} {
		p := w.pool(shape)
		p.Image.Command[0] = w.public()
		p.Image.User = "nobody"
		p.Probes.Startup = &ft.Probe{Command: []string{"/bin/sh", "-c", "test $(id -u) = " + nobody.Uid}, Every: ft.Duration(50 * time.Millisecond), Failures: 20, Timeout: ft.Duration(time.Second)}
		in := w.start(&p, 1)
		if get(t, in, "/file?name=file.txt") != "initial" {
			t.Error("its data is not there")
		}
		if env := get(t, in, "/env"); !strings.Contains(env, "HOME="+nobody.HomeDir+"\n") {
			t.Errorf("HOME is not that of the user: %s", env)
		}
		st, err := os.Stat(filepath.Join(w.data(in), "file.txt"))
		if err != nil || fmt.Sprint(st.Sys().(*syscall.Stat_t).Uid) != nobody.Uid {
			t.Errorf("its data is not its own: %v", err)
		}
		// What is the daemon's must be out of its reach.
		if code, _ := ask(t, in, "GET", "/file?name=../instance.json", ""); code == 200 {
			t.Error("it reads its record")
		}
		if err := w.d.Stop(t.Context(), in.Ref, time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// public is a copy of the test binary that every user can run.
func (w *world) public() string {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		w.t.Fatal(err)
	}
	to := filepath.Join(filepath.Dir(w.state), "process.test")
	if err := os.WriteFile(to, b, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return to
}

// TestUnreachableState says which directory a user cannot enter.
func TestUnreachableState(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root starts processes as somebody else")
	}
	w := newWorld(t)
	if err := os.Chmod(w.state, 0o700); err != nil {
		t.Fatal(err)
	}
	p := w.pool("serve")
	p.Image.User = "nobody"
	_, err := w.d.Start(t.Context(), &p, ref(1, 1), ft.Work{})
	if err == nil || !strings.Contains(err.Error(), "user nobody cannot enter "+w.state+" (mode 0700)") {
		t.Errorf("state directory closed to the user: %v", err)
	}
}

// TestDataDirectory checks the copy: modes, links, times, and that a state directory within the image is left out.
func TestDataDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	w.state = filepath.Join(w.image, "var", "state")
	w.open()
	w.write(filepath.Join(w.image, "bin", "tool"), "#!/bin/sh\n")
	w.write(filepath.Join(w.image, "locked", "inner.txt"), "x")
	source := filepath.Join(filepath.Dir(w.image), "eu.conf")
	w.write(source, "region: eu")
	for _, err := range []error{
		os.Chmod(filepath.Join(w.image, "bin", "tool"), 0o755),
		os.Symlink("bin/tool", filepath.Join(w.image, "link")),
		os.Symlink("/etc", filepath.Join(w.image, "conf")),
		syscall.Mkfifo(filepath.Join(w.image, "pipe"), 0o600),
		os.Chmod(filepath.Join(w.image, "locked"), 0o555),
		os.Chtimes(filepath.Join(w.image, "file.txt"), time.Unix(1e9, 0), time.Unix(1e9, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := os.Chmod(filepath.Join(w.image, "locked"), 0o755); err != nil {
			t.Error(err)
		}
	}()
	p := w.pool("serve")
	p.Specializations = []ft.Specialization{{Name: "eu", Files: map[string]string{"etc/deep/region.conf": source}}}
	p.Initial = "eu"
	in := w.start(&p, 1)
	data := w.data(in)
	if b, err := os.ReadFile(filepath.Join(data, "etc/deep/region.conf")); err != nil || string(b) != "region: eu" {
		t.Errorf("the specialization's file: %q, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(data, "bin/tool")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("mode of a program: %v, %v", st, err)
	}
	if to, err := os.Readlink(filepath.Join(data, "link")); err != nil || to != "bin/tool" {
		t.Errorf("link to %q, %v", to, err)
	}
	if st, err := os.Stat(filepath.Join(data, "file.txt")); err != nil || st.ModTime().Unix() != 1e9 {
		t.Errorf("time of a file: %v, %v", st, err)
	}
	for _, no := range []string{"pipe", "var/state/instances"} {
		if _, err := os.Lstat(filepath.Join(data, no)); !os.IsNotExist(err) {
			t.Errorf("%s was copied: %v", no, err)
		}
	}
	digest := in.Digest
	w.write(filepath.Join(w.image, "new.txt"), "x")
	in, err := w.d.FullReset(t.Context(), &p, in.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if in.Digest == digest {
		t.Error("a new file in the image did not change the digest")
	}
	if _, err := os.Stat(filepath.Join(data, "new.txt")); err != nil {
		t.Errorf("the full reset did not take the new image: %v", err)
	}
	// A link that the program made must not lead the driver out of the data directory.
	outside := t.TempDir()
	if err := os.RemoveAll(filepath.Join(data, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(data, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := w.d.SoftReset(t.Context(), &p, in.Ref); err == nil {
		t.Error("a file was injected through a link out of the data directory")
	}
	if es, err := os.ReadDir(outside); err != nil || len(es) > 0 {
		t.Errorf("outside of the data directory appeared %v, %v", es, err)
	}
	w.end()
	w.open()
}

// TestUnprivileged runs the tests of this package as a user without any privilege.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("these tests run without privilege already")
	}
	w := newWorld(t)
	dir := filepath.Join(filepath.Dir(w.state), "tmp")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.v", "-test.run", "Conformance|Children|Deaf|Environment|Privileges|User|DataDirectory|KilledOwner|Tuning|AdoptedExit|Workers"}
	args = append(args, "-test.short")
	c := exec.Command(w.public(), args...)
	c.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR=" + dir, "HOME=" + dir}
	c.Dir = dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Setsid: true}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	passed := regexp.MustCompile(`(?m)^--- PASS: (\w+)`).FindAllStringSubmatch(string(out), -1)
	if len(passed) < 8 {
		t.Errorf("only %d tests passed:\n%s", len(passed), out)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s*--- SKIP.*\n.*`).FindAllString(string(out), -1) {
		t.Log("without privilege: " + strings.TrimSpace(m))
	}
}
