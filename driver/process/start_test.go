package process_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/hook"
)

// leave asks the instance to exit.
func leave(in ft.Instance, code int) { _ = tryAsk(in, "/exit?code="+strconv.Itoa(code)) }

// tryAsk posts what the instance may not survive, hence answer.
func tryAsk(in ft.Instance, path string) error {
	c, err := hook.Dial(context.Background(), in.Endpoint)
	if err != nil {
		return err
	}
	defer c.Close()
	req, err := http.NewRequest("POST", "http://instance"+path, nil)
	if err != nil {
		return err
	}
	if err := req.Write(c); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// TestFailedStarts checks what a user is told of commands that do not come up, and that nothing of them is left.
func TestFailedStarts(t *testing.T) {
	quick := func(p *ft.Pool) {
		p.Probes.Startup = &ft.Probe{TCP: true, Every: ft.Duration(50 * time.Millisecond), Failures: 20, Timeout: ft.Duration(time.Second)}
	}
	for name, c := range map[string]struct {
		shape     string
		change    func(w *world, p *ft.Pool)
		why, said string
	}{
		"crash": {shape: "crash", why: `^exited with status 3 after [0-9.]+m?s$`, said: "fatal: no such database: orders"},
		"no such command": {
			change: func(_ *world, p *ft.Pool) { p.Image.Command = []string{"no-such-server"} },
			why:    `^command "no-such-server": not found in PATH /`,
		},
		"no such file": {
			change: func(_ *world, p *ft.Pool) { p.Image.Command = []string{"./bin/server"} },
			why:    `^command /.*/data/bin/server: does not exist`,
		},
		"not executable": {change: func(w *world, p *ft.Pool) {
			w.write(filepath.Join(w.image, "server"), "#!/bin/sh\n")
			p.Image.Command = []string{"./server"}
		}, why: `is not executable`},
		"no program": {change: func(w *world, p *ft.Pool) {
			w.write(filepath.Join(w.image, "server"), "just text\n")
			_ = os.Chmod(filepath.Join(w.image, "server"), 0o755)
			p.Image.Command = []string{"./server"}
		}, why: `neither a program for this machine nor a script`},
		"no interpreter": {change: func(w *world, p *ft.Pool) {
			w.write(filepath.Join(w.image, "server"), "#!/no/such/interpreter\n")
			_ = os.Chmod(filepath.Join(w.image, "server"), 0o755)
			p.Image.Command = []string{"./server"}
		}, why: `the interpreter or loader that it names does not exist`},
		"no working directory": {
			shape: "serve", change: func(_ *world, p *ft.Pool) { p.Image.WorkDir = "/no/such/place" },
			why: `working directory.*/no/such/place`,
		},
		"no image": {
			shape: "serve", change: func(_ *world, p *ft.Pool) { p.Image.Dir = "/no/such/image" },
			why: `^copy /no/such/image: `,
		},
		"no such user": {
			shape: "serve", change: func(_ *world, p *ft.Pool) { p.Image.User = "no-such-user" },
			why: `^user "no-such-user": `,
		},
		"no port": {
			shape: "sleep", change: func(_ *world, p *ft.Pool) { quick(p) },
			why: `^opened neither \$PORT \d+ nor \$FETTLE_SOCKET within 1s$`,
		},
		"elsewhere": {
			shape: "elsewhere", change: func(_ *world, p *ft.Pool) { quick(p) },
			why: `within 1s: it listens on 127\.0\.0\.1:\d+, not on \$PORT \d+$`,
		},
		"daemonize": {shape: "daemonize", why: `^exited with status 0 after .* and left 1 running: the command must stay in the foreground`},
		"probe": {shape: "serve", change: func(_ *world, p *ft.Pool) {
			quick(p)
			p.Probes.Startup.TCP, p.Probes.Startup.HTTP = false, "/file?name=none"
		}, why: `^its startup probe failed for 1s: GET /file\?name=none: status 404`},
		"warm-up": {shape: "serve", change: func(_ *world, p *ft.Pool) {
			p.Specializations = []ft.Specialization{{Name: "eu", WarmUp: []string{"/", "/file?name=missing"}}}
			p.Initial = "eu"
		}, why: `^warm-up: GET /file\?name=missing: status 404`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(c.shape)
			if c.change != nil {
				c.change(w, &p)
			}
			_, err := w.d.Start(t.Context(), &p, ref(1, 1), p.InitialWork())
			var se *ft.StartError
			if !errors.As(err, &se) {
				t.Fatalf("%v, want a StartError", err)
			}
			if !regexp.MustCompile(c.why).MatchString(se.Why) {
				t.Errorf("why: %q\nwant %s", se.Why, c.why)
			}
			if !strings.Contains(se.Output, c.said) {
				t.Errorf("output: %q, want %q in it", se.Output, c.said)
			}
			if ins, err := w.d.List(t.Context(), "web"); err != nil || len(ins) > 0 {
				t.Errorf("left in the list: %v, %v", ins, err)
			}
		})
	}
}

// TestPortTaken takes the port of an instance before it listens: it must come up on another one.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	meet := t.TempDir()
	p := w.pool("rendezvous", meet)
	type result struct {
		in  ft.Instance
		err error
	}
	done := make(chan result, 1)
	go func() {
		in, err := w.d.Start(context.Background(), &p, ref(1, 1), ft.Work{})
		done <- result{in, err}
	}()
	var port string
	eventually(t, "the instance runs", func() bool {
		b, err := os.ReadFile(filepath.Join(meet, "port"))
		port = string(b)
		return err == nil
	})
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w.write(filepath.Join(meet, "go"), "")
	r := <-done
	if r.err != nil {
		t.Fatalf("start: %v", r.err)
	}
	if strings.HasSuffix(r.in.Endpoint.Address, ":"+port) {
		t.Error("the endpoint is somebody else's port")
	}
	if get(t, r.in, "/") != "ok\n" {
		t.Error("it does not serve")
	}
}

func TestEndpoints(t *testing.T) {
	for shape, want := range map[string]string{"serve": "tcp:127.0.0.1:", "serve6": "tcp:[::1]:", "socket": "unix:/", "slow": "tcp:127.0.0.1:"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.pool(shape)
			in := w.start(&p, 1)
			if !strings.HasPrefix(in.Endpoint.String(), want) {
				t.Errorf("endpoint %s, want %s", in.Endpoint, want)
			}
			if get(t, in, "/") != "ok\n" {
				t.Error("it does not serve")
			}
		})
	}
}

// TestLongStatePath checks that a unix socket is short enough however long the state directory's path is.
func TestLongStatePath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	w.state = filepath.Join(w.state, strings.Repeat("long/", 30))
	w.open()
	p := w.pool("socket")
	in := w.start(&p, 1)
	if len(in.Endpoint.Address) > 100 || get(t, in, "/") != "ok\n" {
		t.Errorf("endpoint %s", in.Endpoint)
	}
	dir := filepath.Dir(in.Endpoint.Address)
	if err := w.d.Stop(t.Context(), in.Ref, time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the socket's directory %s is left", dir)
	}
}

// TestWorkers checks instances that serve nothing.
func TestWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("sleep")
	p.Serve, p.Listen, p.Probes = ft.None, "", ft.Probes{}
	in := w.start(&p, 1)
	if in.Endpoint.Network != "" {
		t.Errorf("a worker has the endpoint %s", in.Endpoint)
	}
	crash := w.pool("crash")
	crash.Serve, crash.Listen, crash.Probes = ft.None, "", ft.Probes{}
	// A busy machine may give it the half second that counts as started. Then its end is an event.
	if _, err := w.d.Start(t.Context(), &crash, ref(2, 1), ft.Work{}); err == nil {
		eventually(t, "the crash of a worker is noted", func() bool {
			ins, err := w.d.List(context.Background(), "web")
			return err == nil && len(ins) == 2 && ins[1].Exit != nil && ins[1].Exit.Code == 3
		})
	} else if !errors.Is(err, ft.ErrStart) || !strings.Contains(err.Error(), "fatal: no such database") {
		t.Errorf("a worker that crashes at once: %v", err)
	}
	probed := p
	probed.Probes.Startup = &ft.Probe{
		Command: []string{"/bin/sh", "-c", "test $1 = $FETTLE_INSTANCE && test -d $FETTLE_DATA && echo no && exit 4", "sh", "${FETTLE_INSTANCE}"},
		Every:   ft.Duration(20 * time.Millisecond), Failures: 10, Timeout: ft.Duration(time.Second),
	}
	_, err := w.d.Start(t.Context(), &probed, ref(3, 1), ft.Work{})
	if err == nil || !strings.Contains(err.Error(), "its startup probe failed for 200ms: command /bin/sh: exit status 4: no") {
		t.Errorf("a worker whose probe fails: %v", err)
	}
}

// TestPythonServer runs a server that nobody here wrote.
func TestPythonServer(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	w := newWorld(t)
	p := w.pool("")
	p.Image.Command = []string{python, "-m", "http.server", "$PORT", "--bind", "127.0.0.1"}
	in := w.start(&p, 1)
	if got := get(t, in, "/file.txt"); got != "initial" {
		t.Errorf("python serves %q from its data directory", got)
	}
}
