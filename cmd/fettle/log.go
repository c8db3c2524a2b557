package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// eventKinds are all kinds of events; quietKinds are those that fettle log leaves out unless asked for.
var (
	quietKinds = []string{"health", "configured", "found", "intended", "finished"}
	eventKinds = append([]string{
		"began", "missing", "exited", "unresponsive", "responsive", "exceeded", "judged", "commanded", "journal", "opened",
		"closed", "trial", "declined", "recovered", "braked",
	}, quietKinds...)
)

func (c *cli) logCommand() *cobra.Command {
	var follow, all bool
	var instance, since string
	var kinds []string
	var limit int
	cmd := &cobra.Command{
		Use:   "log [POOL]",
		Short: "What was seen and decided",
		Long: `Prints the journal: verdicts, decisions and what became of them, and facts such as exits. Single steps and periodic
figures are left out; --all or --kind shows them.

The kinds: ` + strings.Join(eventKinds[:9], ", ") + `,
` + strings.Join(eventKinds[9:], ", ") + `.`,
		Example: `  fettle log
  fettle log -f web
  fettle log --instance web-3 --since 10m
  fettle log --kind judged,trial -o json`,
		Args: atMost("POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return invalid("log: -n: %d is negative", limit)
			}
			steps := all || len(kinds) > 0
			f := api.LogFilter{Instance: fettle.InstanceID(instance), Kinds: kinds, Limit: limit, Follow: follow}
			if len(args) == 1 {
				f.Pool = fettle.PoolName(args[0])
			}
			if len(kinds) == 0 && !all {
				f.Kinds = slices.DeleteFunc(slices.Clone(eventKinds), func(k string) bool { return slices.Contains(quietKinds, k) && k != "finished" })
			}
			for _, k := range kinds {
				if !slices.Contains(eventKinds, k) {
					return invalid("log: --kind: %q is no kind of event%s; one of %s", k, didYouMean(k, eventKinds), strings.Join(eventKinds, ", "))
				}
			}
			var err error
			if f.Since, err = parseSince(since); err != nil {
				return err
			}
			return c.printLog(cmd.Context(), f, steps)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	fl.BoolVar(&all, "all", false, "also single steps and periodic figures")
	fl.StringVar(&instance, "instance", "", "only what is about this instance")
	fl.StringVar(&since, "since", "", "only what happened since: a duration such as 10m, or a time such as 2006-01-02T15:04:05Z")
	fl.StringSliceVar(&kinds, "kind", nil, "only these kinds, separated by commas: see above")
	fl.IntVarP(&limit, "lines", "n", 0, "only the last so many (default all)")
	return cmd
}

func parseSince(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, invalid("--since: %q is neither a duration such as 10m nor a time such as 2006-01-02T15:04:05Z", s)
}

// printLog prints entries; of single steps only those that failed unless all are wanted.
func (c *cli) printLog(ctx context.Context, f api.LogFilter, steps bool) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := painter(c.out)
	var day string
	none := true
	err = cl.Log(ctx, f, func(e api.LogEntry) error {
		none = false
		if e.Kind == "finished" && !steps && !failed(&e) {
			return nil
		}
		if c.format == "json" {
			b, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("log entry %d: %w", e.Seq, err)
			}
			c.say("%s", b)
			return nil
		}
		at := e.At.Local()
		if d := at.Format(time.DateOnly); d != day {
			day = d
			c.say("%s", p.dim(d))
		}
		c.say("%s  %-8s  %-12s  %s", p.dim(at.Format(time.TimeOnly)), e.Pool, e.Kind, p.colourOf(&e))
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err == nil && none {
		return known(ctx, cl, f)
	}
	return err
}

// known says that the pool or instance of a filter that found nothing is none. Those that are gone have their entries.
func known(ctx context.Context, cl *client.Client, f api.LogFilter) error {
	ps, err := cl.Pools(ctx)
	if err == nil && f.Pool != "" {
		_, err = poolNamed(ps, string(f.Pool))
	}
	if err == nil && f.Instance != "" {
		_, _, err = instanceNamed(ps, string(f.Instance))
	}
	return err
}

// failed tells whether a step failed.
func failed(e *api.LogEntry) bool {
	ev, err := e.Decode()
	f, is := ev.(*fettle.Finished)
	return err == nil && is && f.Err != "" && !f.Skipped
}

// colourOf is an entry's text in the colour of what it means.
func (p paint) colourOf(e *api.LogEntry) string {
	if !p {
		return e.Text
	}
	ev, err := e.Decode()
	if err != nil {
		return e.Text
	}
	switch ev := ev.(type) {
	case *fettle.Judged:
		return p.level(ev.Verdict.Level, e.Text)
	case *fettle.Exited, *fettle.Unresponsive, *fettle.Exceeded, *fettle.JournalState:
		return p.red(e.Text)
	case *fettle.Recovered:
		return p.green(e.Text)
	default:
		return e.Text
	}
}

func (c *cli) logsCommand() *cobra.Command {
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs INSTANCE",
		Short: "What an instance wrote to its output",
		Long: `Prints the last lines that an instance wrote to stdout and stderr. The file is bounded: its oldest lines are dropped. It
outlives the daemon and a restart of the instance, and goes with the instance; of one that failed, the log keeps the
last lines, which are printed then. What Fettle itself saw and decided is in fettle log.`,
		Example: `  fettle logs web-3
  fettle logs web-3 -n 0 > web-3.txt
  fettle logs web-3 -f -n 20`,
		Args: exactly("INSTANCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 {
				return invalid("logs: -n: %d is negative", lines)
			}
			cl, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			r, err := cl.Output(ctx, fettle.InstanceID(args[0]), lines, follow)
			if errors.Is(err, fettle.ErrNotFound) {
				return c.noOutput(ctx, cl, args[0])
			}
			if err != nil {
				return err
			}
			defer r.Close()
			if _, err = io.Copy(c.out, r); err != nil && ctx.Err() == nil {
				return fmt.Errorf("logs of %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it writes")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "the last so many lines; 0 is all that is kept")
	return cmd
}

// noOutput says why an instance has no output: there is none of this name, or it does not come up. Of one that is gone it prints
// what was kept of its end.
func (c *cli) noOutput(ctx context.Context, cl *client.Client, name string) error {
	ps, err := cl.Pools(ctx)
	if err != nil {
		return err
	}
	_, in, err := instanceNamed(ps, name)
	switch {
	case err != nil:
		text, at := lastWords(ctx, cl, name)
		if text == "" {
			return err
		}
		fmt.Fprintf(c.err, "%s is gone; the last that it wrote, until %s:\n", name, at.Local().Format(time.DateTime))
		c.say("%s", text)
		return nil
	case in.LastError != "":
		return fmt.Errorf("logs: %s does not run; the last of it: %s: %w", name, strings.TrimSpace(in.LastError), api.ErrDegraded)
	default:
		return fmt.Errorf("logs: %s: %w: it is %s and has written nothing yet", name, fettle.ErrNotFound, in.Phase)
	}
}

// lastWords is the last output of an instance that the log keeps, of an exit or of a start that failed; "" where it keeps none.
func lastWords(ctx context.Context, cl *client.Client, name string) (text string, at time.Time) {
	f := api.LogFilter{Instance: fettle.InstanceID(name), Kinds: []string{"exited", "finished"}}
	err := cl.Log(ctx, f, func(e api.LogEntry) error {
		ev, err := e.Decode()
		if err != nil {
			return err
		}
		out := ""
		switch ev := ev.(type) {
		case *fettle.Exited:
			out = ev.Exit.LastOutput
		case *fettle.Finished:
			out = ev.Output
		}
		if out = strings.TrimSpace(out); out != "" {
			text, at = out, e.At
		}
		return nil
	})
	if err != nil {
		return "", time.Time{} // that there is no such instance is what counts
	}
	return text, at
}
