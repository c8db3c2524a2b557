package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// serve answers on TCP and on a unix socket, and gives both endpoints.
func serve(t *testing.T, h http.Handler) []ft.Endpoint {
	t.Helper()
	tcp := httptest.NewServer(h)
	t.Cleanup(tcp.Close)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	unix := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	unix.Start()
	t.Cleanup(unix.Close)
	return []ft.Endpoint{{Network: "tcp", Address: tcp.Listener.Addr().String()}, {Network: "unix", Address: path}}
}

func TestHTTPHook(t *testing.T) {
	var got string
	mux := http.NewServeMux()
	mux.HandleFunc("/reload", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.Method + " " + string(b)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no database"+strings.Repeat("!", 1<<20), http.StatusInternalServerError)
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for _, ep := range serve(t, mux) {
		in := ft.Instance{Endpoint: ep}
		call := func(h ft.HTTPHook, timeout time.Duration) error {
			return Call(t.Context(), &ft.Hook{HTTP: &h, Timeout: ft.Duration(timeout)}, in, nil, "")
		}
		if err := call(ft.HTTPHook{Path: "/reload", Body: "now"}, 0); err != nil || got != "POST now" {
			t.Errorf("%s: %v, the server got %q", ep, err, got)
		}
		if err := call(ft.HTTPHook{Path: "/reload", Method: "PUT"}, 0); err != nil || got != "PUT " {
			t.Errorf("%s: %v, the server got %q", ep, err, got)
		}
		err := call(ft.HTTPHook{Path: "/broken"}, 0)
		if err == nil || !strings.Contains(err.Error(), "POST /broken: status 500 Internal Server Error: no database") || len(err.Error()) > 3<<10 {
			t.Errorf("%s: %.200v", ep, err)
		}
		if err := call(ft.HTTPHook{Path: "/moved"}, 0); err == nil {
			t.Errorf("%s: a redirect is success for a hook", ep)
		}
		if err := call(ft.HTTPHook{Path: "/hang"}, 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: a hanging hook: %v, want its deadline", ep, err)
		}
		for path, ok := range map[string]bool{"/reload": true, "/moved": true, "/broken": false, "/none": false} {
			p := &ft.Probe{HTTP: path, Timeout: ft.Duration(5 * time.Second)}
			if err := Probe(t.Context(), p, in, nil, ""); (err == nil) != ok {
				t.Errorf("%s: probe %s: %v, want success %t", ep, path, err, ok)
			}
		}
		if err := Probe(t.Context(), &ft.Probe{TCP: true, Timeout: ft.Duration(time.Second)}, in, nil, ""); err != nil {
			t.Errorf("%s: connect: %v", ep, err)
		}
	}
	nowhere := ft.Instance{Endpoint: ft.Endpoint{Network: "unix", Address: filepath.Join(t.TempDir(), "none")}}
	for _, in := range []ft.Instance{nowhere, {}} {
		for _, p := range []*ft.Probe{{TCP: true}, {HTTP: "/"}} {
			if Probe(t.Context(), p, in, nil, "") == nil {
				t.Errorf("probe of %s succeeded", in.Endpoint)
			}
		}
	}
}

func TestNothingDeclared(t *testing.T) {
	if err := errors.Join(Call(t.Context(), nil, ft.Instance{}, nil, ""), Probe(t.Context(), nil, ft.Instance{}, nil, "")); err != nil {
		t.Error(err)
	}
}

func TestCommandHook(t *testing.T) {
	dir := t.TempDir()
	env := []string{"PATH=/usr/bin:/bin", "PORT=4711", "FETTLE_INSTANCE=web-1", "COLOUR=blue"}
	call := func(timeout time.Duration, argv ...string) error {
		return Call(t.Context(), &ft.Hook{Command: argv, Timeout: ft.Duration(timeout)}, ft.Instance{}, env, dir)
	}
	if err := call(0, "sh", "-c", `test "$COLOUR" = blue && test "$1" = web-1:4711 && pwd > where`, "sh", "${FETTLE_INSTANCE}:$PORT"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "where")); err != nil || strings.TrimSpace(string(b)) != dir {
		t.Errorf("it ran in %q, %v", b, err)
	}
	err := call(0, "sh", "-c", "echo to stdout; echo to stderr >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "command sh: exit status 3: to stdout\nto stderr") {
		t.Errorf("a failing command: %v", err)
	}
	err = call(0, "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; exit 1")
	if err == nil || len(err.Error()) > 3<<10 {
		t.Errorf("the error of a talkative command has %d bytes", len(err.Error()))
	}
	if err := call(0, "no-such-command"); err == nil || !strings.Contains(err.Error(), "command no-such-command: not found") {
		t.Errorf("a missing command: %v", err)
	}
	// The child of a command that is too slow must not outlive it, nor hold it up.
	err = call(200*time.Millisecond, "sh", "-c", "echo waiting; sleep 1000 & echo $! > child; wait")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("a slow command: %v", err)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		b, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the child of a killed command runs on")
}

func TestCommandAsTheInstancesUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs commands as somebody else")
	}
	c := exec.Command("sleep", "1000")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	in := ft.Instance{Scope: ft.Scope{PID: c.Process.Pid}}
	h := &ft.Hook{Command: []string{"/bin/sh", "-c", "test $(id -u):$(id -g):$(id -G) = 65534:65534:65534"}}
	if err := Call(t.Context(), h, in, []string{"PATH=/usr/bin:/bin"}, "/"); err != nil {
		t.Error(err)
	}
}

func TestSignalHook(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	defer signal.Stop(got)
	me := ft.Instance{Scope: ft.Scope{PID: os.Getpid(), StartTime: startTime(os.Getpid())}}
	if err := Call(t.Context(), &ft.Hook{Signal: "USR1"}, me, nil, ""); err != nil {
		t.Fatal(err)
	}
	<-got
	// The same number, but another process: this one must not be hit.
	me.Scope.StartTime++
	if err := Call(t.Context(), &ft.Hook{Signal: "USR1"}, me, nil, ""); !errors.Is(err, ft.ErrNotFound) {
		t.Errorf("signal to a process that took the number: %v, want ErrNotFound", err)
	}
	if err := Call(t.Context(), &ft.Hook{Signal: "NONSENSE"}, me, nil, ""); !errors.Is(err, ft.ErrInvalid) {
		t.Errorf("unknown signal: %v, want ErrInvalid", err)
	}
	if err := Call(t.Context(), &ft.Hook{Signal: "USR1"}, ft.Instance{}, nil, ""); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("signal to nobody: %v, want ErrUnavailable", err)
	}
	select {
	case s := <-got:
		t.Errorf("the wrong process got %v", s)
	default:
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"PORT": "80", "FETTLE_DATA": "/d", "LOOP": "$LOOP"}
	for in, want := range map[string]string{
		"":                     "",
		"plain":                "plain",
		"$PORT":                "80",
		"${PORT}":              "80",
		":$PORT/x":             ":80/x",
		"$PORT$PORT":           "8080",
		"$PORTS ${PORTS}":      "$PORTS ${PORTS}",
		"$FETTLE_DATA/a":       "/d/a",
		"$ $$ $1 100% ${ ${":   "$ $$ $1 100% ${ ${",
		"$$PORT":               "$80",
		"$LOOP":                "$LOOP",
		"awk '{print $2}'$":    "awk '{print $2}'$",
		"${PORT${PORT}":        "${PORT80",
		"ünï $PORT ${unclosed": "ünï 80 ${unclosed",
	} {
		if got := Expand(in, vars); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("${A}$A$AB$", "x")
	f.Add("$", "$A")
	f.Fuzz(func(t *testing.T, s, v string) {
		got := Expand(s, map[string]string{"A": v})
		if !strings.Contains(s, "$A") && !strings.Contains(s, "${A}") && got != s {
			t.Errorf("%q has no reference and became %q", s, got)
		}
		if same := Expand(s, nil); same != s {
			t.Errorf("%q became %q without variables", s, same)
		}
	})
}

func ExampleExpand() {
	fmt.Println(Expand("--listen=:$PORT", map[string]string{"PORT": "8080"}))
	// Output: --listen=:8080
}
