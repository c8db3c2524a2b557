package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/hook"
)

// settled is how long a worker that serves nothing and declares no startup probe must live to count as started:
// what is wrong with a command or its configuration shows within that.
const settled = 500 * time.Millisecond

// stranger is how long somebody outside of the instance must have listened on its port, with the instance alive, until
// it is taken for a helper of it: such as the proxy of a container that the command runs.
const stranger = 2 * time.Second

// hintAfter is when the log says that the instance listens elsewhere.
const hintAfter = 3 * time.Second

// errPortTaken is why an attempt is repeated: another process took the port before the instance did.
var errPortTaken = errors.New("its port was taken by another process")

// serve waits until the launched process serves: startup probe, then warm-up; and notes that durably.
func (d *Driver) serve(ctx context.Context, p *ft.Pool, l *life) error {
	rec, proc, ok := l.snapshot()
	if !ok || proc == nil {
		return errors.New("nothing was launched")
	}
	// The end of the process ends whatever waits for it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-proc.done:
			cancel(errExited)
		case <-ctx.Done():
		}
	}()
	s := startup{d: d, p: p, l: l, rec: &rec, proc: proc, began: time.Now()}
	ep, err := s.run(ctx)
	if err == nil {
		err = s.warmUp(ctx, ep)
	}
	cancel(nil)
	<-watched
	if proc.dying() {
		select {
		case <-proc.done: // it is being noted
		case <-d.ctx.Done():
		}
	}
	if proc.ended() {
		return s.exited()
	}
	if err != nil {
		return err
	}
	return s.admit(ep)
}

// admit notes that the life serves. From here on its end is an event; one that came before is a failed start.
func (s *startup) admit(ep ft.Endpoint) error {
	if err := s.l.update(func(r *record) { r.Ready, r.Instance.Endpoint = true, ep }); err != nil {
		return err
	}
	s.l.mu.Lock()
	ended := s.l.exit != nil
	s.l.silent = ended
	s.l.mu.Unlock()
	if ended {
		return s.exited()
	}
	return nil
}

var errExited = errors.New("the process ended")

// startup is the wait for one life to serve.
type startup struct {
	d     *Driver
	p     *ft.Pool
	l     *life
	rec   *record
	proc  *proc
	began time.Time

	endpoint ft.Endpoint // that answered
	foreign  time.Time   // since when somebody else listens on the port
	hinted   bool
	last     error
}

// run gives the endpoint once the startup probe succeeds.
func (s *startup) run(ctx context.Context) (ft.Endpoint, error) {
	probe := s.p.Probes.Startup
	if probe == nil && s.p.Serve == ft.None {
		return ft.Endpoint{}, s.sleep(ctx, settled)
	}
	if probe == nil {
		probe = &ft.Probe{TCP: true}
	}
	every, failures := probe.Every.D(), probe.Failures
	if every <= 0 {
		every = 200 * time.Millisecond
	}
	if failures <= 0 {
		failures = 300
	}
	limit := time.Duration(failures) * every
	// A quick program need not wait a whole interval for its first checks.
	for delay := min(5*time.Millisecond, every); ; delay = min(2*delay, every) {
		if s.last = s.check(ctx, probe); s.last == nil {
			return s.endpoint, nil
		}
		if err := s.sleep(ctx, delay); err != nil {
			return ft.Endpoint{}, err
		}
		if time.Since(s.began) >= limit {
			return ft.Endpoint{}, s.overdue(limit)
		}
		s.hint()
	}
}

func (s *startup) sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// check makes one round: find what answers, where anything must, and the probe.
func (s *startup) check(ctx context.Context, probe *ft.Probe) error {
	if s.endpoint.Network == "" && (s.rec.Serves || probe.TCP || probe.HTTP != "") {
		ep, err := s.find(ctx, probe.Timeout.D())
		if err != nil {
			return err
		}
		s.endpoint = ep
	}
	if probe.TCP {
		return nil // it just connected
	}
	in, _ := s.l.describe()
	in.Endpoint = s.endpoint
	return hook.Probe(ctx, probe, in, s.rec.Env, s.rec.Cwd)
}

// candidates are where an instance may serve, in the order in which they are tried.
func candidates(rec *record) []ft.Endpoint {
	port := strconv.Itoa(rec.Port)
	return []ft.Endpoint{
		{Network: "tcp", Address: "127.0.0.1:" + port},
		{Network: "unix", Address: rec.Socket},
		{Network: "tcp", Address: "[::1]:" + port},
	}
}

// find is the first endpoint that answers, and belongs to the instance.
func (s *startup) find(ctx context.Context, timeout time.Duration) (ft.Endpoint, error) {
	var first error
	for _, ep := range candidates(s.rec) {
		err := connect(ctx, ep, timeout)
		if err == nil && ep.Network == "tcp" {
			err = s.owned()
		}
		if err == nil {
			return ep, nil
		}
		if first == nil {
			first = err
		}
	}
	return ft.Endpoint{}, first
}

func connect(ctx context.Context, ep ft.Endpoint, timeout time.Duration) error {
	if timeout <= 0 {
		timeout = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := hook.Dial(ctx, ep)
	if err != nil {
		return err
	}
	return c.Close()
}

// owned tells whether the instance itself listens on its port. Somebody else may have been quicker.
func (s *startup) owned() error {
	if s.d.listens(s.rec, s.proc, s.rec.Port) != no {
		s.foreign = time.Time{}
		return nil
	}
	if s.foreign.IsZero() {
		s.foreign = time.Now()
	}
	if time.Since(s.foreign) < stranger {
		return errPortTaken
	}
	return nil
}

// hint says early in the log what the error will say at the end.
func (s *startup) hint() {
	if s.hinted || s.endpoint.Network != "" || time.Since(s.began) < hintAfter {
		return
	}
	s.hinted = true
	if where := s.elsewhere(); where != "" {
		s.d.log.Warn("still waiting for an instance to serve: "+where, "instance", s.rec.Instance.Ref.String())
	}
}

// elsewhere says what the instance listens on instead, if anything.
func (s *startup) elsewhere() string {
	addrs := s.d.listening(s.rec, s.proc)
	if len(addrs) == 0 {
		return ""
	}
	return fmt.Sprintf("it listens on %s, not on $PORT %d", strings.Join(addrs, ", "), s.rec.Port)
}

func (s *startup) overdue(limit time.Duration) error {
	if s.endpoint.Network == "" && isDial(s.last) {
		why := fmt.Sprintf("opened neither $PORT %d nor $FETTLE_SOCKET within %s", s.rec.Port, ft.Duration(limit))
		if where := s.elsewhere(); where != "" {
			why += ": " + where
		}
		return errors.New(why)
	}
	if errors.Is(s.last, errPortTaken) {
		return fmt.Errorf("nothing of its own listened on $PORT %d within %s: %w", s.rec.Port, ft.Duration(limit), s.last)
	}
	return fmt.Errorf("its startup probe failed for %s: %w", ft.Duration(limit), s.last)
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// mustRun says what is wrong with a program that simply ends.
func mustRun(serves bool) string {
	if serves {
		return "a server must keep running and listen on $PORT (workers that take no requests: serve: none)"
	}
	return "a worker must keep running; fettle starts it again whenever it ends"
}

// exited says how the process ended instead of serving.
func (s *startup) exited() error {
	rec, _, ok := s.l.snapshot()
	if !ok {
		return errExited
	}
	exit := s.proc.outcome()
	born := rec.Instance.Born
	why := fmt.Sprintf("%s after %s", exit, ft.Duration(exit.At.Sub(born).Round(100*time.Millisecond)))
	if left := s.d.members(&rec, s.proc); len(left) > 0 && exit.Known && exit.Signal == 0 && exit.Code == 0 {
		why += fmt.Sprintf(" and left %d running: the command must stay in the foreground", len(left))
	} else if exit.Known && exit.Signal == 0 && exit.Code == 0 {
		why += ": " + mustRun(rec.Serves)
	}
	// A program that finds its port in use ends with an error of its own making; ask the port itself.
	if rec.Serves && (exit.Code != 0 || exit.Signal != 0) && (errors.Is(s.last, errPortTaken) || taken(rec.Port)) {
		return fmt.Errorf("%s: %w", why, errPortTaken)
	}
	return errors.New(why)
}

// warmUp makes the specialization's requests, so that first users meet no cold caches.
func (s *startup) warmUp(ctx context.Context, ep ft.Endpoint) error {
	return warmUp(ctx, s.p, s.rec.Instance.Work, ep)
}

func warmUp(ctx context.Context, p *ft.Pool, w ft.Work, ep ft.Endpoint) error {
	spec := p.Specialization(w.Specialization)
	if spec == nil {
		return nil
	}
	for _, path := range spec.WarmUp {
		ctx, cancel := context.WithTimeout(ctx, warmUpTimeout)
		err := hook.Get(ctx, ep, path)
		cancel()
		if err != nil {
			return fmt.Errorf("warm-up: %w", err)
		}
	}
	return nil
}

// warmUpTimeout bounds one request of the warm-up, which may load a lot.
const warmUpTimeout = time.Minute
