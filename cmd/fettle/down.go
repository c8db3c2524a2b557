package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/internal/daemon"
)

func (c *cli) downCommand() *cobra.Command {
	var s api.Shutdown
	cmd := &cobra.Command{
		Use:   "down [POOL...]",
		Short: "Drain and stop pools, or everything",
		Long: `Stops the named pools: requests in flight are finished, then the instances end. Without a name it stops all pools,
the router and the daemon. Instances that a dead daemon left behind are found and stopped too.`,
		Example: `  fettle down
  fettle down web
  fettle down --keep      # ends the daemon only; instances and router run on`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			cl, err := c.connect(ctx)
			if errors.Is(err, api.ErrNoDaemon) && len(args) == 0 && !s.Keep {
				return c.clearAway(ctx, err)
			}
			if err != nil {
				return err
			}
			if len(args) > 0 {
				ps, err := cl.Pools(ctx)
				if err != nil {
					return err
				}
				if _, err := pick(ps, args); err != nil {
					return err
				}
			}
			for _, name := range args {
				if err := cl.Remove(ctx, fettle.PoolName(name)); err != nil {
					return err
				}
				c.done("pool %s is down", name)
			}
			if len(args) > 0 {
				return nil
			}
			return c.shutdown(ctx, cl, s)
		},
	}
	cmd.Flags().BoolVar(&s.Keep, "keep", false, "end the daemon only; instances and router run on and are adopted by the next one")
	cmd.Flags().BoolVar(&s.Force, "force", false, "do not wait for requests in flight")
	return cmd
}

// done says that something was done; JSON readers have the exit code.
func (c *cli) done(format string, a ...any) {
	if c.format != "json" {
		c.say(format, a...)
	}
}

// shutdown ends a daemon and waits until it has let go of its state directory.
func (c *cli) shutdown(ctx context.Context, cl *client.Client, s api.Shutdown) error {
	v, err := cl.Version(ctx)
	if err != nil {
		return err
	}
	if err := cl.Shutdown(ctx, s); err != nil {
		return err
	}
	for daemon.Held(v.StateDir) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if s.Keep {
		c.done("the daemon has ended; instances and router run on")
	} else {
		c.done("all is down")
	}
	return nil
}

// clearAway stops what a dead daemon left running in the state directory; none is the error if there is nothing.
func (c *cli) clearAway(ctx context.Context, none error) error {
	dir, err := c.stateDir()
	if err != nil {
		return err
	}
	if ran, is := errors.AsType[*leftError](none); is {
		if len(ran.dirs) > 1 {
			return none // which is meant has to be said
		}
		dir = ran.dirs[0]
	}
	left, err := daemon.Remembered(dir)
	if err != nil {
		return err
	}
	// What it only watched is not its to stop.
	left = slices.DeleteFunc(left, func(p fettle.Pool) bool { return p.Watch != nil })
	if len(left) == 0 {
		return none
	}
	o, err := c.options(dir, left, &servingFlags{logFormat: "text", logLevel: "warn"})
	if err != nil {
		return err
	}
	o.Ready = func(cl *client.Client) {
		if err := cl.Shutdown(ctx, api.Shutdown{}); err != nil {
			c.report(err)
		}
	}
	if err := c.serve(ctx, o, false, func() {}); err != nil {
		return fmt.Errorf("stopping what was left: %w", err)
	}
	c.done("no daemon ran; the instances that it had left are down")
	return nil
}
