package process

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/hook"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// maxSocketPath keeps $FETTLE_SOCKET below the 108 bytes of sockaddr_un(7), with room for a program's own suffix.
const maxSocketPath = 100

// compose makes the record of a launch: everything is decided here, before anything runs.
func (d *Driver) compose(p *ft.Pool, l *life, ref ft.Ref, w ft.Work) (*record, error) {
	as, err := lookUser(p.Image.User)
	if err != nil {
		return nil, err
	}
	socket, err := makeSocketDir(l.dir, as)
	if err != nil {
		return nil, err
	}
	port, err := d.takePort()
	if err != nil {
		return nil, err
	}
	rec := &record{
		Instance: ft.Instance{
			Ref: ref, Work: w, Digest: digest(p, w), Born: time.Now(), Concurrency: p.Image.Concurrency,
			Port: port,
		},
		Token: rand.Text(), User: as, Serves: p.Serve == ft.HTTP, Group: d.tree.Plan(string(ref.ID)),
		Port: port, Socket: socket,
	}
	if err := d.fill(p, l, rec); err != nil {
		d.drop(rec)
		return nil, err
	}
	return rec, nil
}

// drop gives back what a record holds that is not a file of its directory.
func (d *Driver) drop(rec *record) {
	d.removeGroup(rec)
	d.freePort(rec.Port)
}

// fill decides what the record's process runs, where, and with what settings.
func (d *Driver) fill(p *ft.Pool, l *life, rec *record) error {
	data := filepath.Join(l.dir, dataDir)
	ref, w, as := rec.Instance.Ref, rec.Instance.Work, rec.User
	vars := variables(ref, w, rec.Port, rec.Socket, data)
	rec.Env = environment(p, w, as, vars)
	rec.Cwd = d.cwd
	if p.Image.Dir != "" {
		rec.Cwd = data
	}
	if dir := hook.Expand(p.Image.WorkDir, vars); dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(rec.Cwd, dir)
		}
		rec.Cwd = dir
	}
	for _, a := range p.Image.Command {
		rec.Args = append(rec.Args, hook.Expand(a, vars))
	}
	if len(rec.Args) == 0 {
		return fmt.Errorf("no command: %w", ft.ErrInvalid)
	}
	var err error
	if rec.Path, err = lookCommand(rec.Args[0], value(rec.Env, "PATH"), rec.Cwd); err != nil {
		return err
	}
	// A group that a record does not name yet is a stale one to a recovery.
	if err := rec.Group.Make(); err != nil {
		return err
	}
	return initialSettings(p, rec)
}

// digest identifies image, command and specialization's data: the declared values, and of the files their names,
// modes, sizes and times.
func digest(p *ft.Pool, w ft.Work) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	s := p.Specialization(w.Specialization)
	// Neither value can fail to encode, and a hash takes every write.
	_, _ = enc.Encode(p.Image), enc.Encode(s)
	stamp := func(path string, st fs.FileInfo) {
		fmt.Fprintf(h, "%q %v %d %d\n", path, st.Mode(), st.Size(), st.ModTime().UnixNano())
	}
	if p.Image.Dir != "" {
		_ = filepath.WalkDir(p.Image.Dir, func(path string, e fs.DirEntry, err error) error {
			// A directory's size and time change with files that are not copied; what cannot be read fails the copy.
			if err == nil && !e.IsDir() {
				if st, err := e.Info(); err == nil {
					stamp(path, st)
				}
			}
			return nil
		})
	}
	if s != nil {
		for _, to := range sortedKeys(s.Files) {
			if st, err := os.Stat(s.Files[to]); err == nil {
				stamp(to, st)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// makeSocketDir gives the path of the instance's socket, in a directory of its own that its user may write. Where the
// state directory's path is too long it stands in the user's runtime directory.
func makeSocketDir(dir string, as *account) (string, error) {
	run := socketDir(dir)
	if err := removeAll(run); err != nil {
		return "", fmt.Errorf("make socket directory: %w", err)
	}
	if err := os.Mkdir(run, 0o700); err != nil {
		return "", fmt.Errorf("make socket directory: %w", err)
	}
	if as != nil {
		if err := os.Lchown(run, as.UID, as.GID); err != nil {
			return "", fmt.Errorf("make socket directory: %w", err)
		}
	}
	return filepath.Join(run, "s"), nil
}

func socketDir(dir string) string {
	run := filepath.Join(dir, runDir)
	if len(run)+2 <= maxSocketPath {
		return run
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || len(base) > maxSocketPath-30 {
		base = "/tmp"
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(base, "fettle-"+hex.EncodeToString(sum[:8]))
}

// launch makes the record durable and runs it. It returns when the command runs in the place of the shim.
func (d *Driver) launch(ctx context.Context, l *life, rec *record) error {
	if err := save(l.dir, recordFile, rec); err != nil {
		d.drop(rec)
		return err
	}
	l.mu.Lock()
	l.rec, l.proc, l.exit, l.silent, l.ident = rec, nil, nil, true, identity{}
	l.mu.Unlock()
	status, p, err := d.fork(l, rec)
	if err != nil {
		return err
	}
	defer func() { _ = status.Close() }()
	l.mu.Lock()
	l.proc = p
	l.ident = p.identity
	l.mu.Unlock()
	d.attend(l, p)
	// The shim's word, or its end by the end of the pipe.
	stop := context.AfterFunc(ctx, func() { _ = status.SetReadDeadline(time.Now()) })
	defer stop()
	why, err := io.ReadAll(io.LimitReader(bufio.NewReader(status), 4<<10))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for the command to run: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("waiting for the command to run: %w", err)
	case len(why) > 0:
		return errors.New(string(why))
	}
	var id identity
	if err := load(l.dir, identityFile, &id); err != nil || id.Token != rec.Token {
		return errors.New("was killed before the command ran")
	}
	return nil
}

// fork starts the shim: in a session of its own, output to the log, and a pipe for the time until exec.
func (d *Driver) fork(l *life, rec *record) (status *os.File, p *proc, err error) {
	out, err := openOutput(l.dir, rec)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = out.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = null.Close() }()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = w.Close() }()
	pidfd := -1
	pid, err := syscall.ForkExec(d.exe, []string{"fettle", ShimCommand, l.dir, rec.Token}, &syscall.ProcAttr{
		Dir: "/",
		// By this a recovery finds a shim that hangs.
		Env:   []string{"PATH=" + os.Getenv("PATH"), "FETTLE_DATA=" + filepath.Join(l.dir, dataDir)},
		Files: []uintptr{null.Fd(), out.Fd(), out.Fd(), w.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("run %s: %w", d.exe, err), r.Close())
	}
	// The child is not reaped before it is followed, so its number and its stat are its own.
	s, err := procfs.ReadStat(pid)
	if err == nil && pidfd < 0 {
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err == nil {
		err = unix.SetNonblock(pidfd, true)
	}
	if err != nil {
		kill := syscall.Kill(pid, syscall.SIGKILL)
		_, reaped := syscall.Wait4(pid, nil, 0, nil)
		return nil, nil, errors.Join(fmt.Errorf("follow process %d: %w", pid, err), kill, reaped, r.Close())
	}
	id := identity{Token: rec.Token, PID: pid, StartTime: s.Start, BootID: d.boot}
	return r, &proc{identity: id, os: &procfs.Process{PID: pid, Start: s.Start, FD: os.NewFile(uintptr(pidfd), "pidfd")}, done: make(chan struct{})}, nil
}

// Start makes the instance; see [ft.Driver]. Asked again for a life that runs, it only waits until that serves; a life
// that ended is cleared away and begun again.
func (d *Driver) Start(ctx context.Context, p *ft.Pool, ref ft.Ref, w ft.Work) (ft.Instance, error) {
	if ref.Generation == 0 || ref.ID.Pool() != p.Name {
		return ft.Instance{}, fmt.Errorf("start %s in pool %s: no such life: %w", ref, p.Name, ft.ErrInvalid)
	}
	l, release, err := d.hold(ctx, ref.ID, true)
	if err != nil {
		return ft.Instance{}, fmt.Errorf("start: %w", err)
	}
	defer release()
	if err := l.current(ref); err != nil && !errors.Is(err, ft.ErrNotFound) {
		return ft.Instance{}, fmt.Errorf("start: %w", err)
	}
	if l.running() {
		rec, _, _ := l.snapshot()
		if !rec.Ready {
			if err := d.serve(ctx, p, l); err != nil {
				return ft.Instance{}, d.abandon(l, ref, err)
			}
		}
		in, _ := l.describe()
		return in, nil
	}
	return d.bringUp(ctx, p, l, ref, w)
}

// portTries is how often a start is begun again because somebody else took the port that was free before.
const portTries = 3

// bringUp makes a life of the instance from nothing or from what the last life left. Whatever fails, nothing remains.
func (d *Driver) bringUp(ctx context.Context, p *ft.Pool, l *life, ref ft.Ref, w ft.Work) (ft.Instance, error) {
	for try := 1; ; try++ {
		err := d.attempt(ctx, p, l, ref, w)
		if err == nil {
			in, _ := l.describe()
			return in, nil
		}
		if errors.Is(err, errPortTaken) && try < portTries {
			d.log.Warn("port was taken by another process, trying another one", "instance", ref.String(), "error", err)
			continue
		}
		return ft.Instance{}, d.abandon(l, ref, err)
	}
}

func (d *Driver) attempt(ctx context.Context, p *ft.Pool, l *life, ref ft.Ref, w ft.Work) error {
	if err := d.makeDir(l.dir); err != nil {
		return err
	}
	if err := makeLock(l.dir); err != nil {
		return err
	}
	as, err := lookUser(p.Image.User)
	if err != nil {
		return err
	}
	if err := reach(l.dir, as); err != nil {
		return err
	}
	// The copy is made first: until it is whole the old life runs on.
	if err := d.makeData(ctx, p, l, w, as, nextDir); err != nil {
		return err
	}
	if err := d.vacate(ctx, l, p.Heal.Grace.D()); err != nil {
		return err
	}
	if err := swapData(l.dir); err != nil {
		return err
	}
	rec, err := d.compose(p, l, ref, w)
	if err != nil {
		return err
	}
	if err := d.launch(ctx, l, rec); err != nil {
		return err
	}
	return d.serve(ctx, p, l)
}

// makeDir makes the directory of an instance and that of its pool, whatever the umask: instances of other users must get
// through to their own data.
func (d *Driver) makeDir(dir string) error {
	for _, dir := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	return nil
}

// abandon ends and removes what a failed start left, and says why it failed.
func (d *Driver) abandon(l *life, ref ft.Ref, why error) error {
	// The caller's time may be over; the end of what it started may take its own.
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	out := lastOutput(l.dir)
	if err := errors.Join(d.end(ctx, l, 0), d.remove(l)); err != nil {
		why = fmt.Errorf("%w; and what it left could not be cleared: %w", why, err)
	}
	return &startError{StartError: ft.StartError{Ref: ref, Why: strings.TrimSpace(why.Error()), Output: out}, cause: why}
}

// startError keeps the cause beside the words.
type startError struct {
	ft.StartError
	cause error
}

// Unwrap makes it a *[ft.StartError] and whatever caused it.
func (e *startError) Unwrap() []error { return []error{&e.StartError, e.cause} }
