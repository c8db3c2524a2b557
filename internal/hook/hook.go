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
	"path/filepath"
	"strconv"
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
		return sendSignal(in.Scope, h.Signal)
	case len(h.Command) > 0:
		return command(ctx, h.Command, in.Scope, env, dir)
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
		return command(ctx, p.Command, in.Scope, env, dir)
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

// sendSignal goes to the leader by a descriptor that is compared with its identity, so that it cannot reach a process that
// took its number.
func sendSignal(s ft.Scope, name string) error {
	n := unix.SignalNum("SIG" + name)
	if n == 0 {
		return fmt.Errorf("signal %q: %w", name, ft.ErrInvalid)
	}
	if s.PID <= 1 {
		return fmt.Errorf("signal %s: no process: %w", name, ft.ErrUnavailable)
	}
	fd, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return fmt.Errorf("signal %s to process %d: %w", name, s.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if s.StartTime != 0 && startTime(s.PID) != s.StartTime {
		return fmt.Errorf("signal %s to process %d: it has ended: %w", name, s.PID, ft.ErrNotFound)
	}
	if err := unix.PidfdSendSignal(fd, n, nil, 0); err != nil {
		return fmt.Errorf("signal %s to process %d: %w", name, s.PID, err)
	}
	return nil
}

// startTime is field 22 of /proc/PID/stat, 0 where there is none.
func startTime(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return 0
	}
	n, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// credential is whom the instance runs as, for a command that root runs on its behalf; nil to stay who we are.
func credential(s ft.Scope) (*syscall.Credential, error) {
	if os.Geteuid() != 0 || s.PID <= 1 {
		return nil, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		return nil, fmt.Errorf("user of process %d: %w", s.PID, err)
	}
	c := &syscall.Credential{}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		var ids []uint32
		for w := range strings.FieldsSeq(rest) {
			if n, err := strconv.ParseUint(w, 10, 32); err == nil {
				ids = append(ids, uint32(n))
			}
		}
		switch {
		case name == "Uid" && len(ids) == 4:
			c.Uid = ids[1]
		case name == "Gid" && len(ids) == 4:
			c.Gid = ids[1]
		case name == "Groups":
			c.Groups = ids
		}
	}
	if c.Uid == 0 {
		return nil, nil
	}
	return c, nil
}

// command runs without a shell, as the instance's user, in a process group of its own that is killed whole when ctx
// ends.
func command(ctx context.Context, argv []string, s ft.Scope, env []string, dir string) error {
	as, err := credential(s)
	if err != nil {
		return fmt.Errorf("command %s: %w", argv[0], err)
	}
	args, vars := make([]string, len(argv)-1), own(env)
	for i, a := range argv[1:] {
		args[i] = Expand(a, vars)
	}
	c := exec.CommandContext(ctx, lookPath(argv[0], env, dir), args...)
	c.Env, c.Dir, c.WaitDelay = env, dir, waitDelay
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	out := &tail{}
	c.Stdout, c.Stderr = out, out
	err = c.Run()
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

// lookPath finds the program by the PATH of the instance; the name itself where it is not there, for the error.
func lookPath(name string, env []string, dir string) string {
	if strings.ContainsRune(name, '/') {
		return name
	}
	for _, e := range env {
		path, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, d := range filepath.SplitList(path) {
			if !filepath.IsAbs(d) {
				d = filepath.Join(dir, d)
			}
			file := filepath.Join(d, name)
			if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return file
			}
		}
	}
	return name
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
