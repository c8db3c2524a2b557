package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestMain lets the test binary be the application.
func TestMain(m *testing.M) {
	if os.Getenv("DEMO_APP") == "1" {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// running is an application in a process of its own.
type running struct {
	t    *testing.T
	url  string
	proc *Process
	cmd  *exec.Cmd
	c    *Console
}

func start(t *testing.T) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := WriteImage(dir, 1); err != nil {
		t.Fatal(err)
	}
	c, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	port := freePort(t)
	cmd := exec.Command(os.Args[0], "--control", filepath.Join(dir, "s"))
	cmd.Env = append(os.Environ(), "DEMO_APP=1", "FETTLE_DATA="+dir, "FETTLE_INSTANCE=web-1", "PORT="+strconv.Itoa(port))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := &running{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", port), cmd: cmd, c: c}
	until(t, "the application is up", func() bool {
		r.proc = c.Process("web-1")
		if r.proc == nil {
			return false
		}
		res, err := http.Get(r.url + "/healthz")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusNoContent
	})
	return r
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func (r *running) do(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (r *running) plant(c Command) State {
	r.t.Helper()
	s, err := r.proc.Do(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestRoutes(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		holds              string
	}{
		{"GET", "/item/k0007", "", 200, `"key":"k0007"`},
		{"GET", "/item/nope", "", 404, "no such item"},
		{"GET", "/report/k0007", "", 200, `"report":"k0007"`},
		{"GET", "/report/nope", "", 404, "no such item"},
		{"GET", "/search?q=amber", "", 200, `"q":"amber"`},
		{"POST", "/item/k0007", `{"note":"a"}`, 200, `"notes":1`},
		{"POST", "/item/k0007", `{"note":"b"}`, 200, `"notes":2`},
		{"POST", "/item/nope", `{"note":"b"}`, 404, "no such item"},
		{"POST", "/item/k0007", `{`, 400, "no note"},
		{"DELETE", "/item/k0007", "", 405, ""},
	} {
		status, body := r.do(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.holds) {
			t.Errorf("%s %s: %d %.100s, want %d with %q", c.method, c.path, status, body, c.status, c.holds)
		}
	}
}

func TestSoftResetKeepsCountsAndCuresTheLock(t *testing.T) {
	r := start(t)
	for i := range 5 {
		r.do("POST", "/item/"+Key(i%2), `{"note":"x"}`)
	}
	want := map[string]int{Key(0): 3, Key(1): 2}
	if s := r.plant(Command{Do: SlowLock, Delay: 20 * time.Millisecond}); s.Slow == 0 {
		t.Fatal("the lock is not slow after it was planted")
	}
	began := time.Now()
	r.do("GET", "/item/k0001", "")
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("a request took %v with a lock that is held 20ms", took)
	}
	if status, body := r.do("POST", "/admin/reload", ""); status != 204 {
		t.Fatalf("reload: %d %s", status, body)
	}
	s := r.plant(Command{Do: Ask})
	if s.Slow == 0 || s.Reloads != 1 {
		t.Errorf("after the reload: slow %v, %d reloads; a reload does not make the lock anew", s.Slow, s.Reloads)
	}
	if status, body := r.do("POST", "/admin/soft-reset", ""); status != 204 {
		t.Fatalf("soft reset: %d %s", status, body)
	}
	s = r.plant(Command{Do: Ask})
	if s.Slow != 0 || s.SoftResets != 1 || s.PID != r.cmd.Process.Pid {
		t.Errorf("after the soft reset: slow %v, %d soft resets, pid %d", s.Slow, s.SoftResets, s.PID)
	}
	if d := cmp.Diff(want, s.Posts); d != "" {
		t.Errorf("counts after the soft reset (-want +got):\n%s", d)
	}
	if _, body := r.do("POST", "/item/"+Key(0), `{"note":"x"}`); !strings.Contains(body, `"notes":4`) {
		t.Errorf("the count does not go on after the soft reset: %s", body)
	}
}

func TestSoftResetTakesNewData(t *testing.T) {
	dir := t.TempDir()
	if err := WriteImage(dir, 1); err != nil {
		t.Fatal(err)
	}
	s, err := newServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := s.store.Load().item(Key(3))
	if err := WriteImage(dir, 2); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest("POST", "/admin/soft-reset", nil)
	w := &recorder{header: http.Header{}}
	s.handler().ServeHTTP(w, req)
	after, _ := s.store.Load().item(Key(3))
	if w.status != 204 || string(before) == string(after) {
		t.Errorf("status %d; the item is still %.60s", w.status, after)
	}
	if err := os.Remove(filepath.Join(dir, itemsFile)); err != nil {
		t.Fatal(err)
	}
	s.handler().ServeHTTP(w, req)
	if again, _ := s.store.Load().item(Key(3)); w.status != 500 || string(again) != string(after) {
		t.Errorf("status %d for data that is missing; the old data must stay", w.status)
	}
}

type recorder struct {
	header http.Header
	status int
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (w *recorder) WriteHeader(status int)      { w.status = status }

func TestLeakTakesResidentMemoryAndOutlivesTheSoftReset(t *testing.T) {
	r := start(t)
	before := rss(t, r.cmd.Process.Pid)
	r.plant(Command{Do: Leak, Rate: 200 << 20})
	var s State
	until(t, "64 MiB leaked", func() bool { s = r.plant(Command{Do: Ask}); return s.Leaked > 64<<20 })
	if grown := rss(t, r.cmd.Process.Pid) - before; grown < 56<<20 {
		t.Errorf("%d MiB leaked but only %d MiB are resident", s.Leaked>>20, grown>>20)
	}
	r.do("POST", "/admin/soft-reset", "")
	if after := r.plant(Command{Do: Ask}); after.Leaked < s.Leaked {
		t.Errorf("the soft reset gave %d bytes back", s.Leaked-after.Leaked)
	}
	if s = r.plant(Command{Do: Mend}); s.Leaked != 0 {
		t.Errorf("%d bytes are still leaked after the mend", s.Leaked)
	}
}

func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func TestWasteGrowsUntilItIsMended(t *testing.T) {
	r := start(t)
	files := func() int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := files()
	r.plant(Command{Do: Files, Rate: 1000})
	until(t, "100 descriptors more", func() bool { return files() > before+100 })
	r.plant(Command{Do: Mend})
	until(t, "they are given back", func() bool { return files() < before+20 })
	used := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		ticks, err := strconv.Atoi(strings.Fields(string(b))[13])
		if err != nil {
			t.Fatal(err)
		}
		return ticks
	}
	idle := used()
	r.plant(Command{Do: Spin, Rate: 1})
	until(t, "a second of CPU time burnt", func() bool { return used() > idle+100 })
}

func TestHangAcceptsAndNeverAnswers(t *testing.T) {
	r := start(t)
	if s := r.plant(Command{Do: Hang}); !s.Hung {
		t.Fatal("not hung")
	}
	for _, path := range []string{"/item/k0001", "/healthz"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, "GET", r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("GET %s of a hung application: %v", path, err)
		}
		cancel()
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatalf("a hung application still accepts: %v", err)
	}
	_ = conn.Close()
	if s := r.plant(Command{Do: Ask}); !s.Hung {
		t.Error("the console does not reach a hung application")
	}
	r.plant(Command{Do: Mend})
	if status, _ := r.do("GET", "/item/k0001", ""); status != http.StatusOK {
		t.Errorf("status %d after the mend", status)
	}
}

func TestStopsWhenAskedAndWhenTheDemoIsGone(t *testing.T) {
	t.Run("SIGTERM", func(t *testing.T) {
		r := start(t)
		if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-r.proc.Gone()
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("exit after SIGTERM: %v", err)
		}
		if _, err := r.proc.Do(t.Context(), Command{Do: Ask}); !errors.Is(err, ErrGone) {
			t.Errorf("a command to a process that is gone: %v", err)
		}
		until(t, "the console forgets it", func() bool { return r.c.Process("web-1") == nil && len(r.c.PIDs()) == 0 })
	})
	t.Run("console closed", func(t *testing.T) {
		r := start(t)
		if err := r.c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("exit after the demo went: %v", err)
		}
	})
}

func TestBadStart(t *testing.T) {
	empty := t.TempDir()
	broken := t.TempDir()
	if err := WriteImage(broken, 1); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, itemsFile), []byte("{}\nnot json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, control, want string }{
		{"no data", empty, "", "load configuration"},
		{"broken data", broken, "", "line 2"},
	} {
		t.Setenv("FETTLE_DATA", c.dir)
		if err := run(t.Context(), c.control, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
	if Main([]string{"--nonsense"}) != 2 {
		t.Error("a wrong flag is accepted")
	}
}

func TestImageIsTheSameForASeed(t *testing.T) {
	read := func(seed uint64) string {
		dir := t.TempDir()
		if err := WriteImage(dir, seed); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, itemsFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	a := read(5)
	if a != read(5) || a == read(6) {
		t.Error("the items do not depend on the seed alone")
	}
	var first item
	line, _, _ := strings.Cut(a, "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil || first.Key != Key(0) || strings.Count(a, "\n") != Items {
		t.Errorf("first item %q, %v, %d lines", first.Key, err, strings.Count(a, "\n"))
	}
}

// TestLRU compares the cache with a slice that is searched.
func TestLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(t, "size")
		c := newLRU(size)
		var model []string // most recent first
		touch := func(k string) {
			model = append([]string{k}, without(model, k)...)
			model = model[:min(len(model), size)]
		}
		key := rapid.SampledFrom(strings.Split("abcdefgh", ""))
		t.Repeat(map[string]func(*rapid.T){
			"put":  func(t *rapid.T) { k := key.Draw(t, "key"); c.put(k, []byte(k)); touch(k) },
			"drop": func(t *rapid.T) { k := key.Draw(t, "key"); c.drop(k); model = without(model, k) },
			"get": func(t *rapid.T) {
				k := key.Draw(t, "key")
				has := len(without(model, k)) < len(model)
				if v := c.get(k); (string(v) == k) != has {
					t.Fatalf("get %s: %q, want it there: %v", k, v, has)
				}
				if has {
					touch(k)
				}
			},
			"": func(t *rapid.T) {
				if c.order.Len() != len(model) || len(c.at) != len(model) {
					t.Fatalf("%d entries, %d indexed, want %d", c.order.Len(), len(c.at), len(model))
				}
			},
		})
	})
}

func without(s []string, k string) []string {
	var out []string
	for _, x := range s {
		if x != k {
			out = append(out, x)
		}
	}
	return out
}
