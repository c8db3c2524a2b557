package process_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/driver/drivertest"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/internal/hook"
)

// world is a state directory with a driver over it.
type world struct {
	t     testing.TB
	state string
	image string // directory that instances get a copy of
	d     *process.Driver
}

func newWorld(t testing.TB) *world {
	t.Helper()
	// Instances of other users must get through to it, which t.TempDir does not allow.
	dir, err := os.MkdirTemp("", "fettle-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, state: filepath.Join(dir, "state"), image: filepath.Join(dir, "image")}
	w.write(filepath.Join(w.image, "file.txt"), drivertest.Initial)
	w.open()
	t.Cleanup(func() {
		w.end()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) write(path, content string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	w.t.Helper()
	d, err := process.New(process.Options{StateDir: w.state})
	if err != nil {
		w.t.Fatal(err)
	}
	w.d = d
}

func (w *world) reopen() {
	w.t.Helper()
	if err := w.d.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// end stops all instances and checks that neither process nor control group nor file is left.
func (w *world) end() {
	ins, err := w.d.List(context.Background(), "")
	if err != nil {
		w.t.Error(err)
	}
	for _, in := range ins {
		if err := w.d.Stop(context.Background(), in.Ref, time.Second); err != nil {
			w.t.Error(err)
		}
	}
	if err := w.d.Close(); err != nil {
		w.t.Error(err)
	}
	if left := w.processes(); len(left) > 0 {
		w.t.Errorf("processes are left behind: %v", left)
	}
	if left := w.groups(); len(left) > 0 {
		w.t.Errorf("control groups are left behind: %v", left)
	}
	dirs, err := filepath.Glob(filepath.Join(w.state, "instances", "*", "*"))
	if err != nil || len(dirs) > 0 {
		w.t.Errorf("directories are left behind: %v, %v", dirs, err)
	}
}

// processes are all whose environment or command names the state directory, found without the driver.
func (w *world) processes() []string {
	var found []string
	ps, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range ps {
		stat, err := os.ReadFile(filepath.Join(p, "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") || strings.Contains(string(stat), ") X ") {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		cmd, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if strings.Contains(string(env), w.state+"/") || strings.Contains(string(cmd), process.ShimCommand+"\x00"+w.state+"/") {
			found = append(found, filepath.Base(p)+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	return found
}

func (w *world) groups() []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/fettle/*", "/sys/fs/cgroup/*/fettle/*", "/sys/fs/cgroup/*/*/*/fettle/*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			if filepath.Base(d) == process.GroupName(w.state) {
				found = append(found, d)
			}
		}
	}
	return found
}

// pool runs one of the test binary's shapes.
func (w *world) pool(shape string, args ...string) ft.Pool {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := ft.Pool{
		Name: "web", Mode: ft.HealAutomatic, Listen: ":0", Size: ft.Sizing{Min: 2},
		Image: ft.Image{Command: append([]string{exe, "app", shape}, args...), Dir: w.image},
	}
	p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/soft-reset"}}
	p.Defaults()
	p.Heal.Grace = ft.Duration(3 * time.Second)
	return p
}

func ref(serial, generation uint32) ft.Ref {
	return ft.Ref{ID: ft.NewInstanceID("web", serial), Generation: generation}
}

func (w *world) start(p *ft.Pool, serial uint32) ft.Instance {
	w.t.Helper()
	in, err := w.d.Start(context.Background(), p, ref(serial, 1), p.InitialWork())
	if err != nil {
		w.t.Fatal(err)
	}
	return in
}

// ask makes a request to the instance.
func ask(t testing.TB, in ft.Instance, method, path, body string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return hook.Dial(ctx, in.Endpoint)
		},
	}}
	req, err := http.NewRequest(method, "http://instance"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func get(t testing.TB, in ft.Instance, path string) string {
	t.Helper()
	code, body := ask(t, in, "GET", path, "")
	if code != 200 {
		t.Fatalf("GET %s: %d %s", path, code, body)
	}
	return body
}

// alive tells whether the process of that identity runs.
func alive(in ft.Instance) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", in.Scope.PID))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return f[19] == strconv.FormatUint(in.Scope.StartTime, 10) && f[0] != "Z"
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 2000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 10s: %s", what)
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) *drivertest.Harness {
		t.Parallel()
		w := newWorld(t)
		h := &drivertest.Harness{
			Driver: w.d, Pool: w.pool("serve"), Broken: w.pool("crash"),
			Kill:     func(t testing.TB, in ft.Instance) { kill(t, in) },
			Running:  func(_ testing.TB, in ft.Instance) bool { return alive(in) },
			SetState: func(t testing.TB, in ft.Instance, v string) { ask(t, in, "POST", "/state", v) },
			State:    func(t testing.TB, in ft.Instance) string { return get(t, in, "/state") },
			SetData: func(_ testing.TB, in ft.Instance, v string) {
				w.write(filepath.Join(w.data(in), "file.txt"), v)
			},
			Data:   func(t testing.TB, in ft.Instance) string { return get(t, in, "/file?name=file.txt") },
			Reopen: func(testing.TB) ft.Driver { w.reopen(); return w.d },
		}
		h.Pool.Limits.Memory = 256 << 20
		slow := w.pool("sleep")
		h.Slow = &slow
		return h
	})
}

func (w *world) data(in ft.Instance) string {
	return filepath.Join(w.state, "instances", string(in.ID.Pool()), string(in.ID), "data")
}

func kill(t testing.TB, in ft.Instance) {
	t.Helper()
	if err := syscall.Kill(in.Scope.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed process ends", func() bool { return !alive(in) })
}
