package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/internal/daemon"
)

// servingFlags are those of all commands that are a daemon.
type servingFlags struct {
	keep      bool
	metrics   string
	logFormat string
	logLevel  string
}

func (f *servingFlags) add(fl *pflag.FlagSet) {
	fl.BoolVar(&f.keep, "keep", false, "at the end leave instances and router running for the next daemon")
	f.addLog(fl)
}

// addLog are those of one that has nothing to leave running.
func (f *servingFlags) addLog(fl *pflag.FlagSet) {
	fl.StringVar(&f.metrics, "metrics", "", "address of a Prometheus endpoint, such as 127.0.0.1:9464 (default off)")
	fl.StringVar(&f.logFormat, "log-format", "text", "form of the log on stderr: text or json")
	fl.StringVar(&f.logLevel, "log-level", "warn", "what is logged on stderr: debug, info, warn or error")
}

func (f *servingFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, invalid("--log-level: %q is none of debug, info, warn, error", f.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	default:
		return nil, invalid("--log-format: %q is neither text nor json", f.logFormat)
	}
}

// errStopped is why a daemon ends that was asked to by a signal.
var errStopped = errors.New("stopped by a signal")

// options are those of a daemon in this process.
func (c *cli) options(dir string, pools []fettle.Pool, f *servingFlags) (daemon.Options, error) {
	log, err := f.logger(c.err)
	if err != nil {
		return daemon.Options{}, err
	}
	reg := registry()
	if reg == "" {
		log.Warn("commands find this daemon only where they are told to: --state " + dir + ", or FETTLE_STATE")
	}
	return daemon.Options{
		StateDir: dir, Socket: c.socket, Registry: reg, Version: version(), Pools: pools, Metrics: f.metrics, Log: log,
	}, nil
}

// foreground runs a daemon in this process and tells its story until a signal or a shutdown ends it.
func (c *cli) foreground(ctx context.Context, dir string, pools []fettle.Pool, f *servingFlags) error {
	o, err := c.options(dir, pools, f)
	if err != nil {
		return err
	}
	s := newStory(c)
	defer s.close()
	o.Event = s.event
	o.Ready = func(cl *client.Client) { s.begin(ctx, cl) }
	return c.serve(ctx, o, f.keep, s.stopping)
}

// serve runs a daemon until it is asked to end: by its API, or by a signal. A second signal forces.
func (c *cli) serve(ctx context.Context, o daemon.Options, keep bool, stopping func()) error {
	outliveReader()
	cause := errStopped
	if keep {
		cause, stopping = daemon.ErrKeep, func() {}
	}
	ctx, force, end := untilSignal(ctx, cause, stopping)
	defer end()
	o.Force = force
	return daemon.Run(ctx, o)
}

// outliveReader makes a write to a pipe that nobody reads any more fail, rather than end this process: Ctrl-C ends the
// reader too, and a daemon that dies of that drains nothing. It holds until the process ends.
func outliveReader() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // caught, not ignored: children would inherit that
}

// untilSignal gives a context that ends with the cause at the first signal to end, after stopping was called, and a
// channel that is closed at the second. end gives the signals back.
func untilSignal(ctx context.Context, cause error, stopping func()) (_ context.Context, force <-chan struct{}, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	sig := make(chan os.Signal, 4)
	signal.Notify(sig, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	second, done := make(chan struct{}), make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-sig:
			}
			switch n {
			case 0:
				stopping()
				cancel(cause)
			case 1:
				close(second)
			}
		}
	}()
	return ctx, second, func() {
		signal.Stop(sig)
		close(done)
		cancel(nil)
	}
}
