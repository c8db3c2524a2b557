// Package hook talks to a running instance in the ways that a pool may declare: an HTTP request over TCP or a unix
// socket, a signal to its leader, a command with its environment. Probes, soft resets, re-specialisation and warm-up
// go through it.
package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// DefaultTimeout of a hook that declares none.
const DefaultTimeout = 10 * time.Second

// maxOutput bounds what an error quotes of a response or of a command's output.
const maxOutput = 2 << 10

// waitDelay is how long a command's pipes may stay open after it was killed: a grandchild can hold them.
const waitDelay = 500 * time.Millisecond

// Call carries out a hook on the instance, within its timeout. env is the instance's environment and dir the
// directory in which its command runs. A hook that declares nothing does nothing.
func Call(ctx context.Context, h *ft.Hook, in ft.Instance, env []string, dir string) error {
	if h == nil {
		return nil
	}
	timeout := h.Timeout.D()
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case h.HTTP != nil:
		return request(ctx, in.Endpoint, h.HTTP)
	case h.Signal != "":
		return signal(in.Scope, h.Signal)
	case len(h.Command) > 0:
		return command(ctx, h.Command, env, dir)
	}
	return nil
}

// Probe makes one check of the instance, within the probe's timeout; nil is success. A TCP probe connects to the
// instance's endpoint, which may be a unix socket.
func Probe(ctx context.Context, p *ft.Probe, in ft.Instance, env []string, dir string) error {
	if p == nil {
		return nil
	}
	if p.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Timeout.D())
		defer cancel()
	}
	switch {
	case p.HTTP != "":
		return Get(ctx, in.Endpoint, p.HTTP)
	case p.TCP:
		c, err := Dial(ctx, in.Endpoint)
		if err != nil {
			return err
		}
		return c.Close()
	case len(p.Command) > 0:
		return command(ctx, p.Command, env, dir)
	}
	return nil
}

// Dial connects to an endpoint.
func Dial(ctx context.Context, ep ft.Endpoint) (net.Conn, error) {
	if ep.Network == "" {
		return nil, fmt.Errorf("dial: the instance serves nothing: %w", ft.ErrUnavailable)
	}
	var d net.Dialer
	return d.DialContext(ctx, ep.Network, ep.Address)
}

// Get requests a path; any status below 400 is success. Redirects are not followed.
func Get(ctx context.Context, ep ft.Endpoint, path string) error {
	return do(ctx, ep, http.MethodGet, path, "", 400)
}

func request(ctx context.Context, ep ft.Endpoint, h *ft.HTTPHook) error {
	method := h.Method
	if method == "" {
		method = http.MethodPost
	}
	return do(ctx, ep, method, h.Path, h.Body, 300)
}

// do makes one request on a connection of its own; statuses from below on are failures.
func do(ctx context.Context, ep ft.Endpoint, method, path, body string, below int) error {
	what := method + " " + path
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host(ep)+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("User-Agent", "fettle")
	t := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, ep) },
	}
	defer t.CloseIdleConnections()
	res, err := t.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= 200 && res.StatusCode < below {
		// The whole answer is taken, so that a warm-up that streams has really run to its end.
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxOutput)) // the status says it already
	return fmt.Errorf("%s: status %s%s", what, res.Status, quote(b))
}

func host(ep ft.Endpoint) string {
	if ep.Network == "tcp" {
		return ep.Address
	}
	return "localhost"
}

func signal(s ft.Scope, name string) error {
	n := unix.SignalNum("SIG" + name)
	if n == 0 {
		return fmt.Errorf("signal %q: %w", name, ft.ErrInvalid)
	}
	if s.PID <= 1 {
		return fmt.Errorf("signal %s: no process: %w", name, ft.ErrUnavailable)
	}
	if err := syscall.Kill(s.PID, n); err != nil {
		return fmt.Errorf("signal %s to process %d: %w", name, s.PID, err)
	}
	return nil
}

// command runs without a shell, in a process group of its own that is killed whole when ctx ends.
func command(ctx context.Context, argv, env []string, dir string) error {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env, c.Dir, c.WaitDelay = env, dir, waitDelay
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	out := &tail{}
	c.Stdout, c.Stderr = out, out
	err := c.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("command %s: not done in time: %w%s", argv[0], ctx.Err(), quote(out.b))
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("command %s: not found: %w", argv[0], err)
	}
	return fmt.Errorf("command %s: %w%s", argv[0], err, quote(out.b))
}

// tail keeps the last maxOutput bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - maxOutput; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func quote(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return ""
	}
	return ": " + string(b)
}
