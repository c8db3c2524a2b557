package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/internal/daemon"
	"github.com/fettle-dev/fettle/internal/demo/app"
)

const (
	members  = 8
	poolName = "bench"
)

// timing is how long things last.
type timing struct {
	interval, learn        time.Duration // of the judge
	warm, healthy          time.Duration // before the learning stretch; it, the judge's learning time included
	before, during, settle time.Duration // of a stretch; after it, until the next one
}

// run is one pool of an application, under load, until it is closed.
type run struct {
	timing
	app  *application
	seed uint64
	exe  string
	temp string

	client  *client.Client
	console *app.Console // of the demo's
	backend *backend
	load    *load
	meter   meter
	ins     []instance
	ends    map[ft.InstanceID]func() // of faults that go on in the bench
	closers []func() error
}

func listen() (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
}

// start brings the pool up and drives it.
func (r *run) start(ctx context.Context) (err error) {
	r.ends = map[ft.InstanceID]func(){}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.temp, err = os.MkdirTemp("/tmp", "fettle-cause-"); err != nil { // short: sockets lie in it
		return err
	}
	r.closers = append(r.closers, func() error { return os.RemoveAll(r.temp) })
	if r.backend, err = startBackend(); err != nil {
		return err
	}
	r.closers = append(r.closers, r.backend.srv.Close)
	spec, err := r.pool()
	if err != nil {
		return err
	}
	if err := r.daemon(ctx, spec); err != nil {
		return err
	}
	addr, err := r.ready(ctx)
	if err != nil {
		return err
	}
	if r.app.isHTTP() {
		r.load = httpLoad(addr, r.app.rate*members, r.seed)
	} else {
		for _, in := range r.ins {
			if err := fillRedis(ctx, in.addr); err != nil {
				return err
			}
		}
		if r.load, err = redisLoad(ctx, r.ins, r.app.rate*members, r.seed); err != nil {
			return err
		}
	}
	driven, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go r.meter.run(driven)
	go func() {
		defer close(done)
		r.load.run(driven)
	}()
	r.closers = append(r.closers, func() error {
		stop()
		<-done
		return nil
	})
	return nil
}

// pool is what a user who only watches would write.
func (r *run) pool() (ft.Pool, error) {
	image, err := r.app.image(r)
	if err != nil {
		return ft.Pool{}, fmt.Errorf("image of %s: %w", r.app.name, err)
	}
	if r.console != nil {
		r.closers = append(r.closers, r.console.Close)
	}
	p := ft.Pool{
		Name: poolName, Mode: ft.Observe, Image: image, Size: ft.Sizing{Min: members},
		Detect: ft.Detect{Interval: ft.Duration(r.interval), Learn: ft.Duration(r.learn)},
	}
	if r.app.isHTTP() {
		p.Listen = "127.0.0.1:0"
		p.Route.Key = &ft.RouteKey{Path: 2}
		p.Probes.Startup, p.Probes.Readiness = &ft.Probe{HTTP: "/healthz"}, &ft.Probe{HTTP: "/healthz"}
	} else {
		p.Serve = ft.None
		p.Probes.Startup = &ft.Probe{TCP: true}
	}
	p.Limits.Silence = ft.Duration(time.Hour) // nothing is to be replaced
	p.Defaults()
	return p, nil
}

// daemon runs the same as `fettle up`.
func (r *run) daemon(ctx context.Context, spec ft.Pool) error {
	running, stop := context.WithCancel(ctx)
	ready, done := make(chan *client.Client, 1), make(chan error, 1)
	go func() {
		done <- daemon.Run(running, daemon.Options{
			StateDir: filepath.Join(r.temp, "state"), Exe: r.exe, Version: "bench", Pools: []ft.Pool{spec}, Log: slog.New(slog.DiscardHandler),
			Ready: func(c *client.Client) { ready <- c },
		})
	}()
	end := func() error {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("daemon: %w", err)
		}
		return nil
	}
	select {
	case r.client = <-ready:
		r.closers = append(r.closers, end)
		return nil
	case err := <-done:
		stop()
		return fmt.Errorf("the daemon did not start: %w", err)
	}
}

// ready waits until all instances are in service and gives the pool's address.
func (r *run) ready(ctx context.Context) (string, error) {
	var last api.PoolStatus
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); {
		s, err := r.client.Pool(ctx, poolName)
		if err != nil {
			return "", err
		}
		if last = s; s.Ready == members {
			r.ins = instancesOf(&s)
			return s.Address, nil
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return "", ctx.Err()
		}
	}
	why := []string{last.DegradedWhy}
	for i := range last.Instances {
		why = append(why, last.Instances[i].LastError)
	}
	return "", fmt.Errorf("%d of %d instances came up: %s", last.Ready, members, strings.Join(why, " "))
}

func instancesOf(s *api.PoolStatus) []instance {
	var out []instance
	for i := range s.Instances {
		in := &s.Instances[i]
		out = append(out, instance{in.ID, in.Generation, strings.TrimPrefix(in.Endpoint, "tcp:")})
	}
	return out
}

// errReplaced is of a pool whose instances are not those of the healthy stretch any more.
var errReplaced = errors.New("an instance was replaced")

// same checks that no instance died meanwhile.
func (r *run) same(ctx context.Context) error {
	s, err := r.client.Pool(ctx, poolName)
	if err != nil {
		return err
	}
	if now := instancesOf(&s); !slices.Equal(now, r.ins) {
		return fmt.Errorf("%w: %v, before %v", errReplaced, now, r.ins)
	}
	return nil
}

func (r *run) close() error {
	var errs []error
	for _, c := range slices.Backward(r.closers) {
		errs = append(errs, c())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// begin lets a scenario begin; the function that it gives ends it.
func (r *run) begin(ctx context.Context, s scenario, victim instance, size float64) (end func() error, err error) {
	on := r.ins
	if !s.all {
		on = []instance{victim}
	}
	switch s.kind {
	case control:
		return func() error { return nil }, nil
	case loadUp, loadDown, routes, payloads:
		c := &change{kind: s.kind, size: size}
		if !s.all {
			c.of = victim.id
		}
		r.load.now.Store(c)
		return func() error {
			r.load.now.Store(nil)
			if s.kind == payloads && !r.app.isHTTP() { // what was written is still there
				return r.mend(ctx, on, s.kind)
			}
			return nil
		}, nil
	case dependency:
		r.backend.delay.Store(int64(size * float64(time.Second)))
		return func() error {
			r.backend.delay.Store(int64(usualDelay))
			return nil
		}, nil
	default:
		return func() error { return r.mend(ctx, on, s.kind) }, r.plant(ctx, on, s.kind, size)
	}
}

func (r *run) plant(ctx context.Context, on []instance, k kind, size float64) error {
	for _, in := range on {
		if err := r.app.plant(ctx, r, in, k, size); err != nil {
			return fmt.Errorf("%s of %s: %w", k, in.id, err)
		}
	}
	return nil
}

func (r *run) mend(ctx context.Context, on []instance, k kind) error {
	for _, in := range on {
		if err := r.app.mend(ctx, r, in, k); err != nil {
			return fmt.Errorf("end %s of %s: %w", k, in.id, err)
		}
	}
	return nil
}

// draw gives victim and size, by the seed and the scenario alone: a run that was broken off goes on with the same.
func draw(seed uint64, s scenario) (victim int, size float64) {
	rnd := rand.New(rand.NewPCG(seed, hash(s.String())))
	victim = rnd.IntN(members)
	size = s.usual()
	if s.kind != forget && s.kind != routes && s.kind != control {
		size *= 0.8 + 0.45*rnd.Float64()
	}
	return victim, size
}
