package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// waiting is the flag of commands that take a while.
type waiting struct{ no bool }

func (w *waiting) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.no, "no-wait", false, "return when it is accepted, not when it is done")
}

// ask sends a command to the pool or, with a target, to the pool of the instance, and says what came of it.
func (c *cli) ask(ctx context.Context, pool fettle.PoolName, cmd fettle.Command, wait bool) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	ps, err := cl.Pools(ctx)
	if err != nil {
		return err
	}
	p, err := poolNamed(ps, string(pool))
	if cmd.Target != "" {
		p, _, err = instanceNamed(ps, string(cmd.Target))
	}
	if err != nil {
		return err
	}
	pool = p.Name
	cmd.By = by()
	o, err := cl.Command(ctx, pool, cmd, wait)
	if errors.Is(err, fettle.ErrBusy) && !cmd.Force && cmd.Kind != "scale" {
		return fmt.Errorf("%s; --force does it anyhow: %w", plainError(err), fettle.ErrBusy)
	}
	if err != nil {
		return err
	}
	if c.format == "json" {
		return c.printJSON(o)
	}
	if o.Text != "" {
		c.say("%s", o.Text)
	}
	return nil
}

// by is who asks, for the journal.
func by() string {
	if u, err := user.Current(); err == nil {
		return "cli " + u.Username
	}
	return "cli"
}

func (c *cli) scaleCommand() *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use:   "scale POOL N",
		Short: "Change how many instances run",
		Long: `Starts instances, or drains and stops some, until N run; no request is lost. N may be up to size.max of the pool, for
fettle run up to --max. It holds until the pool file is applied again or the pool is started anew.`,
		Example: `  fettle scale web 6
  fettle scale web 6 --no-wait
  fettle scale web 0            # none runs; requests are answered with 503`,
		Args: exactly("POOL", "N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			switch {
			case err != nil:
				return invalid("scale: %q is no number of instances", args[1])
			case n < 0:
				return negative(cmd, args[1])
			}
			return c.ask(cmd.Context(), fettle.PoolName(args[0]), fettle.Command{Kind: "scale", Size: n}, !w.no)
		},
	}
	w.add(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// A number below 0 looks like a flag.
		if e, is := errors.AsType[*pflag.NotExistError](err); is {
			if n := e.GetSpecifiedShortnames(); n != "" && strings.Trim(n, "0123456789") == "" {
				return negative(cmd, "-"+n)
			}
		}
		return cmd.Root().FlagErrorFunc()(cmd, err)
	})
	return cmd
}

func negative(cmd *cobra.Command, n string) error {
	return invalid("scale: %s: how many instances run cannot be less than 0; usage: %s", n, cmd.UseLine())
}

func (c *cli) restartCommand() *cobra.Command {
	var w waiting
	var force bool
	cmd := &cobra.Command{
		Use:   "restart POOL",
		Short: "Start all instances anew, one after the other, without losing a request",
		Long: `Takes the instances one after the other, within the pool's budgets, back to the image: each is drained, ended, started
anew and warmed up. Instances made from an older image or specification are brought up to date.`,
		Example: `  fettle restart web
  fettle restart web --no-wait`,
		Args: exactly("POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			pool := fettle.PoolName(args[0])
			if !w.no && c.format == "text" {
				if cl, err := c.connect(ctx); err == nil {
					go c.restartProgress(ctx, cl, pool)
				}
			}
			return c.ask(ctx, pool, fettle.Command{Kind: "restart", Force: force}, !w.no)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even where the brakes do not allow it now")
	w.add(cmd)
	return cmd
}

// restartProgress tells what is done while a restart is waited for.
func (c *cli) restartProgress(ctx context.Context, cl *client.Client, pool fettle.PoolName) {
	p := painter(c.err)
	var after uint64
	// The last entry so far, to begin after it.
	err := cl.Log(ctx, api.LogFilter{Pool: pool, Limit: 1}, func(e api.LogEntry) error {
		after = e.Seq
		return nil
	})
	if err != nil {
		return
	}
	f := api.LogFilter{Pool: pool, After: after, Kinds: []string{"opened", "closed", "finished"}, Follow: true}
	// Progress only: failures are told by the command itself.
	_ = cl.Log(ctx, f, func(e api.LogEntry) error {
		ev, err := e.Decode()
		if err != nil {
			return err
		}
		if line := describe(p, ev); line != "" {
			fmt.Fprintln(c.err, line)
		}
		return nil
	})
}

func (c *cli) pauseCommand() *cobra.Command {
	return c.poolCommand("pause POOL", "pause", "Do nothing by itself any more; judge and explain only",
		"Planned actions stop until fettle resume. Probes, absolute limits and replacing what has died go on.")
}

func (c *cli) resumeCommand() *cobra.Command {
	return c.poolCommand("resume POOL", "resume", "Act by itself again", "Ends what fettle pause began.")
}

func (c *cli) poolCommand(use, kind, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Example: "  fettle " + kind + " web",
		Args:    exactly("POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ask(cmd.Context(), fettle.PoolName(args[0]), fettle.Command{Kind: kind}, false)
		},
	}
}

func (c *cli) resetCommand() *cobra.Command {
	var w waiting
	var soft, full, force bool
	cmd := &cobra.Command{
		Use:   "reset INSTANCE --soft|--full",
		Short: "Reset an instance: softly (state kept) or fully (back to the image)",
		Long: `--soft makes the program reload its essential data and configuration; it keeps its state. The image or
specialization declares how (hooks.softReset).
--full takes the instance back to its image and initial data: it is drained, ended and started anew.`,
		Example: `  fettle reset web-3 --soft
  fettle reset web-3 --full`,
		Args: exactly("INSTANCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if soft == full {
				return invalid("reset: say --soft or --full; usage: %s", cmd.UseLine())
			}
			kind := "reset-full"
			if soft {
				kind = "reset-soft"
			}
			return c.ask(cmd.Context(), "", fettle.Command{Kind: kind, Target: fettle.InstanceID(args[0]), Force: force}, !w.no)
		},
	}
	cmd.Flags().BoolVar(&soft, "soft", false, "reload data and configuration, keep state")
	cmd.Flags().BoolVar(&full, "full", false, "back to the image and initial data")
	cmd.Flags().BoolVar(&force, "force", false, "even where the brakes do not allow it now")
	w.add(cmd)
	return cmd
}

func (c *cli) evictCommand() *cobra.Command {
	var w waiting
	var force bool
	cmd := &cobra.Command{
		Use:   "evict INSTANCE",
		Short: "Replace an instance by a new one",
		Long:  "A replacement is started and warmed up first; then the instance is drained and stopped.",
		Example: `  fettle evict web-3
  fettle evict web-3 --force`,
		Args: exactly("INSTANCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ask(cmd.Context(), "", fettle.Command{Kind: "evict", Target: fettle.InstanceID(args[0]), Force: force}, !w.no)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even where the brakes do not allow it now")
	w.add(cmd)
	return cmd
}

func (c *cli) adjustCommand() *cobra.Command {
	var w waiting
	var force bool
	cmd := &cobra.Command{
		Use:   "adjust INSTANCE KNOB=VALUE",
		Short: "Set one of an instance's knobs",
		Long:  "Sets a knob within its bounds. fettle ps -o json lists the knobs of each instance with their bounds.",
		Example: `  fettle adjust web-3 memory=512MiB
  fettle adjust web-3 cpu=200`,
		Args: exactly("INSTANCE", "KNOB=VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := parseSetting(args[1])
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), "", fettle.Command{Kind: "adjust", Target: fettle.InstanceID(args[0]), Set: &set, Force: force}, !w.no)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even where the pool's budget or the brakes do not allow it now")
	w.add(cmd)
	return cmd
}

func parseSetting(s string) (fettle.Setting, error) {
	knob, text, ok := strings.Cut(s, "=")
	if !ok || knob == "" {
		return fettle.Setting{}, invalid("adjust: %q is not KNOB=VALUE", s)
	}
	if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
		return fettle.Setting{Knob: knob, Value: v}, nil
	}
	var size fettle.Size
	if err := size.UnmarshalText([]byte(text)); err != nil {
		return fettle.Setting{}, invalid("adjust: %s: %q is neither a number nor a size such as 512MiB", knob, text)
	}
	return fettle.Setting{Knob: knob, Value: float64(size)}, nil
}

func (c *cli) acceptCommand() *cobra.Command {
	return c.learnCommand("accept", "What it does now is normal", `Makes the present behaviour the baseline: drift ends, and the instance is judged by it from now on.`)
}

func (c *cli) forgetCommand() *cobra.Command {
	return c.learnCommand("forget", "Drop what was learnt and learn anew", `Drops the baseline: nothing is judged until it has been learnt anew.`)
}

// learnCommand is one that goes to an instance or to a whole pool.
func (c *cli) learnCommand(kind, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: kind + " INSTANCE|POOL", Short: short, Long: long,
		Example: fmt.Sprintf("  fettle %s web-3\n  fettle %s web", kind, kind),
		Args:    exactly("INSTANCE or POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			ps, err := cl.Pools(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := poolNamed(ps, args[0]); err == nil {
				return c.ask(cmd.Context(), fettle.PoolName(args[0]), fettle.Command{Kind: kind}, false)
			}
			if _, _, err := instanceNamed(ps, args[0]); err != nil {
				return unknownName(ps, args[0], "neither a pool nor an instance")
			}
			return c.ask(cmd.Context(), "", fettle.Command{Kind: kind, Target: fettle.InstanceID(args[0])}, false)
		},
	}
}

func (c *cli) planCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plan [POOL...]",
		Short: "What mode heal would do now",
		Long: `Shows what Fettle would do now by itself in mode heal, also for pools in a more careful mode, and why it leaves
drifting instances alone. Nothing is changed.`,
		Example: `  fettle plan
  fettle plan web -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			ps, err := cl.Pools(cmd.Context())
			if err != nil {
				return err
			}
			if ps, err = pick(ps, args); err != nil {
				return err
			}
			plans := []api.Plan{}
			for i := range ps {
				pl, err := cl.Plan(cmd.Context(), ps[i].Name)
				if err != nil {
					return err
				}
				plans = append(plans, pl)
			}
			if c.format == "json" {
				return c.printJSON(plans)
			}
			c.printPlans(plans)
			return nil
		},
	}
}

func (c *cli) printPlans(plans []api.Plan) {
	for _, pl := range plans {
		head := fmt.Sprintf("pool %s (mode %s)", pl.Pool, pl.Mode)
		if pl.Watched {
			head = fmt.Sprintf("pool %s (only watched: this is what mode heal would do if Fettle ran it)", pl.Pool)
		}
		if len(pl.Actions) == 0 && len(pl.Quiet) == 0 {
			c.say("%s: nothing to do", head)
			continue
		}
		c.say("%s:", head)
		for _, a := range pl.Actions {
			c.say("  %s", a.Text)
		}
		for _, q := range pl.Quiet {
			c.say("  %s is left alone: %s", q.Instance, q.Text)
		}
	}
}
