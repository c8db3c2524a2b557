// Package demo is `fettle demo`: the main job, shown live on a pool of real processes.
//
// It runs a daemon as `fettle up` does, with a pool of four instances of the application in package app, drives it with
// the open loop of package load, and plants faults from outside, one at a time, that nobody tells the daemon of. It
// tells what the daemon sees and does, and keeps its own books of what became of every request.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/demo/app"
	"github.com/fettle-dev/fettle/internal/demo/load"
)

// Options say what the demo does. The zero Options plant all faults at normal speed.
type Options struct {
	Seed   uint64          // decides victims, order, times and sizes
	Faults string          // "all" (or empty), "none", or names separated by commas
	Speed  float64         // divides intervals and spans; 0 is 1
	JSON   bool            // print only the result as JSON to Out; the story goes to Err if that is a terminal
	Keep   bool            // keep the state directory and say where it is
	Out    io.Writer       // the story and the table, or the JSON
	Err    io.Writer       // the story, with JSON
	Exe    string          // the fettle binary, for application, router and shim; this one if empty
	Log    *slog.Logger    // what the daemon has to say; discarded if nil
	Force  <-chan struct{} // once closed, nothing is waited for any more; may be nil

	rate float64 // requests/s; 0 is the usual rate
}

// The demo's pool and its load.
const (
	poolName  = fettle.PoolName("web")
	instances = 4
	usualRate = 160 // requests/s: about a third of one core with everything, so that twice as many fit beside other work
	memory    = 256 << 20
)

// App is the application that the demo runs, as the hidden subcommand `fettle internal-demo-app`. It returns the
// exit code.
func App(args []string) int { return app.Main(args) }

// Run runs the demo: until all faults were planted and dealt with, or ctx ends. It leaves no process behind. The error
// is of the demo itself and wraps fettle.ErrInvalid where an option is wrong; how well Fettle did is in the Result.
func Run(ctx context.Context, o Options) (Result, error) {
	ks, err := parseFaults(o.Faults)
	if err != nil {
		return Result{}, fmt.Errorf("demo: %w: %w", fettle.ErrInvalid, err)
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if !(o.Speed >= 0.1 && o.Speed <= 20) {
		return Result{}, fmt.Errorf("demo: %w: speed %g is not between 0.1 and 20", fettle.ErrInvalid, o.Speed)
	}
	if o.rate == 0 {
		o.rate = usualRate
	}
	if o.Exe == "" {
		if o.Exe, err = os.Executable(); err != nil {
			return Result{}, fmt.Errorf("demo: %w", err)
		}
	}
	dir, err := os.MkdirTemp(shortTemp(), "fettle-demo-")
	if err != nil {
		return Result{}, fmt.Errorf("demo: %w", err)
	}
	began := time.Now()
	d := &demo{
		Options: o, dir: dir, began: began, tape: newTape(began),
		plans: draw(o.Seed, ks, o.Speed), interval: time.Duration(float64(time.Second) / o.Speed),
	}
	d.story = newStory(d.audience(), began)
	defer d.removeState()
	r, err := d.run(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("demo: %w", err)
	}
	return r, d.report(r)
}

// shortTemp is the directory for temporary files, unless a path in it is too long for a unix socket's 108 bytes.
func shortTemp() string {
	if dir := os.TempDir(); len(dir) <= 40 {
		return dir
	}
	return "/tmp"
}

// demo is one run.
type demo struct {
	Options
	dir      string
	began    time.Time
	interval time.Duration // between frames
	plans    []plan
	story    *story
	tape     *tape
	console  *app.Console
	gen      *load.Generator
	brain    *brain
	outages  []load.Outage
	trials   []trial
	ready    time.Duration // when all instances were in service
}

// audience is where the story goes.
func (d *demo) audience() io.Writer {
	if !d.JSON {
		return d.Out
	}
	if d.Err != nil && isTerminal(d.Err) {
		return d.Err
	}
	return io.Discard
}

func (d *demo) since() time.Duration { return time.Since(d.began) }

// scaled is a span at normal speed.
func (d *demo) scaled(span time.Duration) time.Duration {
	return time.Duration(float64(span) / d.Speed)
}

func (d *demo) removeState() {
	d.story.text("")
	if d.Keep {
		d.story.say(plain, "kept", "%s", d.dir)
		return
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.story.say(red, "clean-up", "%v", err)
	}
}

// run brings the pool up, lets it learn, plants the faults and takes everything down again.
func (d *demo) run(ctx context.Context) (r Result, err error) {
	image := filepath.Join(d.dir, "image")
	if err := os.Mkdir(image, 0o755); err != nil {
		return r, err
	}
	if err := app.WriteImage(image, d.Seed); err != nil {
		return r, err
	}
	socket := filepath.Join(d.dir, "faults.sock")
	if d.console, err = app.Listen(socket); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.console.Close()) }()
	pool := d.pool(image, socket)
	d.introduce(pool)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.brain = d.startBrain(pool)
	told := d.tellEvents(ctx)
	defer func() {
		stop()
		<-told
		err = errors.Join(err, d.stopBrain())
	}()
	addr, err := d.bringUp(ctx)
	if err != nil {
		return r, err
	}
	d.gen = load.NewGenerator(addr, d.began, load.NewSchedule(d.Seed, d.rate), nil)
	halt, driven := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(driven)
		d.gen.Run(ctx, halt)
	}()
	err = d.act(ctx)
	if err != nil {
		stop()
	}
	close(halt)
	<-driven
	if err != nil {
		return r, err
	}
	return d.result(), nil
}

// act is the play itself.
func (d *demo) act(ctx context.Context) error {
	if err := d.learn(ctx); err != nil {
		return err
	}
	if len(d.plans) == 0 {
		return d.watchNothing(ctx)
	}
	for _, p := range d.plans {
		if err := d.fault(ctx, p); err != nil {
			return err
		}
	}
	d.story.say(plain, "demo", "all faults were planted; a last look at the pool")
	return d.pause(ctx, d.scaled(aftermath), "the load goes on")
}

// result scores the whole run.
func (d *demo) result() Result {
	events, _ := d.tape.after(0)
	requests, lost := d.gen.Ledger.Count(d.outages)
	r := Result{
		Requests: requests, LostPlanned: lost.Planned, LostFault: lost.Fault, Faults: []FaultResult{},
		ActionsWithoutFault: withoutFault(events, d.ready, d.trials),
	}
	for i := range d.trials {
		t := &d.trials[i]
		f := t.judge(events, d.interval)
		f.Before = d.gen.Ledger.Window(t.planted-d.scaled(aftermath), t.planted)
		f.During = d.gen.Ledger.Window(t.planted, t.acute)
		f.After = d.gen.Ledger.Window(t.ended, t.ended+d.scaled(aftermath))
		r.Faults = append(r.Faults, f)
	}
	return r
}
