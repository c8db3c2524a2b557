package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/plane"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// Options of the router process.
type Options struct {
	Socket string // path of the control socket; its directory is made with mode 0700
	Log    *slog.Logger
}

// graceful is how long requests in flight may take to finish when the router is asked to end.
const graceful = 30 * time.Second

// Main is the hidden subcommand that [Attach] runs, "fettle internal-router SOCKET", with the arguments after its
// name. It returns the exit status. SIGTERM lets requests in flight finish.
func Main(args []string) (code int) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(args) != 1 {
		log.Error("internal-router takes one argument, the path of its control socket")
		return 2
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT) // Ctrl-C is the daemon's to handle
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, Options{Socket: args[0], Log: log}, nil); err != nil {
		log.Error("router ended", "err", err)
		return 1
	}
	return 0
}

// Serve is the router process: it answers on the control socket and serves the pools until ctx ends or the control
// side asks it to end, then lets requests in flight finish. Listeners given here are handed out with the first table
// of their pool; usually there are none, and they come over the control socket.
func Serve(ctx context.Context, o Options, listeners map[ft.PoolName]*os.File) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &server{log: o.Log, began: time.Now(), stop: stop, pools: map[ft.PoolName]*served{}, subs: map[chan wire.Event]struct{}{}}
	s.given = map[ft.PoolName]*net.TCPListener{}
	for name, f := range listeners {
		l, err := wire.FileListener(f)
		if err != nil {
			return fmt.Errorf("router: pool %s: %w", name, err)
		}
		s.given[name] = l
	}
	control, release, err := listenControl(o.Socket)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	defer release()
	s.log.Info("router serves", "pid", os.Getpid(), "control", o.Socket)
	go func() {
		<-ctx.Done()
		control.Close()
	}()
	for {
		c, err := control.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil {
				return errors.Join(fmt.Errorf("router: control socket: %w", err), s.shutdown())
			}
			return s.shutdown()
		}
		go s.control(wire.NewConn(c))
	}
}

// listenControl takes the lock of the control socket, so that there is one router only, and listens.
func listenControl(path string) (l *net.UnixListener, release func(), err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, nil, err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		// One that was killed holds the lock until the kernel has taken it apart.
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			break
		}
		if time.Now().After(end) {
			lock.Close()
			return nil, nil, fmt.Errorf("another router holds %s: %w", lock.Name(), err)
		}
	}
	err = wire.At(path, func(p string) error {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false) // the path may lead through a descriptor that is closed by then
		}
		return err
	})
	if err != nil {
		lock.Close()
		return nil, nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, func() {
		l.Close()
		_ = os.Remove(path) // stale ones are removed at the next start
		lock.Close()
	}, nil
}

// server is the router process.
type server struct {
	log   *slog.Logger
	began time.Time
	stop  context.CancelFunc

	mu    sync.Mutex
	pools map[ft.PoolName]*served
	given map[ft.PoolName]*net.TCPListener // not yet asked for
	ended bool

	ending sync.WaitGroup // pools that were closed and let requests in flight finish

	subMu sync.Mutex
	subs  map[chan wire.Event]struct{}
}

// served is a pool that is served.
type served struct {
	pool     *plane.Pool
	http     *http.Server
	listener *net.TCPListener
}

// apply makes a table the pool's, and the listener its listener where there is one.
func (s *server) apply(t *wire.Table, l *net.TCPListener) error {
	if err := t.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return fmt.Errorf("the router ends: %w", ft.ErrUnavailable)
	}
	v := s.pools[t.Pool]
	if l == nil && v == nil {
		if l = s.given[t.Pool]; l == nil {
			return fmt.Errorf("pool %s has no listener: %w", t.Pool, ft.ErrNotFound)
		}
		delete(s.given, t.Pool)
	}
	if v == nil {
		p := plane.New(t, s.log, s.publish)
		v = &served{pool: p, http: p.Server()}
		s.pools[t.Pool] = v
	} else if !v.pool.Apply(t) {
		if l != nil {
			l.Close()
		}
		return fmt.Errorf("pool %s has a later table than %d: %w", t.Pool, t.Epoch, ft.ErrConflict)
	}
	if l != nil {
		old := v.listener
		v.listener = l
		go s.serve(t.Pool, v.http, l)
		if old != nil {
			old.Close()
		}
	}
	return nil
}

func (s *server) serve(name ft.PoolName, h *http.Server, l *net.TCPListener) {
	if err := h.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		s.log.Error("listener failed", "pool", string(name), "err", err)
	}
}

func (s *server) pool(name ft.PoolName) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.pools[name]; v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("pool %q is not served: %w", name, ft.ErrNotFound)
}

// close ends a pool: no new connection; requests in flight may finish.
func (s *server) close(name ft.PoolName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.pools[name]
	delete(s.pools, name)
	if v != nil {
		v.listener.Close()
		s.ending.Go(func() { s.end(name, v) })
	}
}

func (s *server) end(name ft.PoolName, v *served) {
	ctx, cancel := context.WithTimeout(context.Background(), graceful)
	defer cancel()
	v.pool.Last()
	if err := v.http.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) { // the listener, by close
		s.log.Warn("requests were cut", "pool", string(name), "err", err)
		_ = v.http.Close() // says again what Shutdown said
	}
	v.pool.Close()
}

func (s *server) shutdown() error {
	s.mu.Lock()
	s.ended = true
	pools := s.pools
	s.pools = map[ft.PoolName]*served{}
	for name, v := range pools {
		v.listener.Close()
		s.ending.Go(func() { s.end(name, v) })
	}
	for _, l := range s.given {
		l.Close()
	}
	s.mu.Unlock()
	s.ending.Wait()
	s.log.Info("router ended")
	return nil
}

// publish hands an event to all that listen. One that does not keep up is cut off: it asks for the state again.
func (s *server) publish(e wire.Event) {
	s.subMu.Lock() // not mu: members report while their pool is locked, which others lock after mu
	defer s.subMu.Unlock()
	for c := range s.subs {
		select {
		case c <- e:
		default:
			delete(s.subs, c)
			close(c)
		}
	}
}
