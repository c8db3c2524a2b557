package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/internal/demo"
	"github.com/fettle-dev/fettle/router"
)

func (c *cli) demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job live: a pool of real processes, faults planted, noticed and healed",
		Long: `Runs four copies of a small HTTP application, drives them with an unsteady load, plants faults one at a time that the
brain knows nothing of, and tells who drifted, why, what was done, and whether it helped. Ends with a table.

In the JSON, lost_planned counts the requests that clients sent and that were refused, reset, timed out or answered by
the router with an error, but for lost_fault: those of them that were inside the process that had been made to hang.
lost_planned must be 0; lost_fault is what the fault itself cost, whatever Fettle does.

The exit code is 1 when a planned action lost a request, a fault was missed, or a healthy instance was disrupted.`,
		Example: `  fettle demo
  fettle demo --speed 4 --seed 7
  fettle demo --faults none -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Speed <= 0 {
				return invalid("demo: --speed: %g is not above 0", o.Speed)
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			o.Exe, o.Out, o.Err, o.JSON = exe, c.out, c.err, c.format == "json"
			outliveReader()
			read, unread := context.WithCancelCause(cmd.Context())
			defer unread(nil)
			if !terminal(c.out) {
				o.Out = &watchedPipe{c.out, unread}
			}
			ctx, force, end := untilSignal(read, errStopped, func() {})
			defer end()
			o.Force = force
			r, err := demo.Run(ctx, o)
			if errors.Is(context.Cause(ctx), errUnread) {
				return fmt.Errorf("demo: %w; all that it started has been stopped", errUnread)
			}
			if ctx.Err() != nil {
				return errors.New("demo: interrupted; all that it started has been stopped")
			}
			if err != nil {
				return err
			}
			if !r.OK() {
				c.code = 1
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.Uint64Var(&o.Seed, "seed", 1, "decides victims, order, times and sizes")
	fl.StringVar(&o.Faults, "faults", "all", "all, none, or some of load, mix, leak, slow-lock, hang, separated by commas")
	fl.Float64Var(&o.Speed, "speed", 1, "shortens the intervals by this factor")
	fl.BoolVar(&o.Keep, "keep", false, "keep the state directory and say where it is")
	return cmd
}

// errUnread is output that nobody reads any more, as that of fettle demo | head.
var errUnread = errors.New("nobody reads its output any more")

// watchedPipe is an output that says when nobody reads it any more.
type watchedPipe struct {
	io.Writer
	unread func(error)
}

// Write writes.
func (w *watchedPipe) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		w.unread(errUnread)
	}
	return n, err
}

// internalCommands are those that Fettle runs itself with.
func (c *cli) internalCommands() []*cobra.Command {
	raw := func(name string, f func(args []string) int) *cobra.Command {
		return &cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(_ *cobra.Command, args []string) error {
				c.code = f(args)
				return nil
			},
		}
	}
	var f servingFlags
	serve := &cobra.Command{
		Use: "internal-daemon", Hidden: true, Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := c.stateDir()
			if err != nil {
				return err
			}
			o, err := c.options(dir, nil, &f)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), o, true, func() {})
		},
	}
	f.add(serve.Flags())
	return []*cobra.Command{
		raw("internal-exec", process.Shim),
		raw("internal-router", router.Main),
		raw("internal-demo-app", demo.App),
		serve,
	}
}
