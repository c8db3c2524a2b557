package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
)

// explanation is what fettle explain -o json prints.
type explanation struct {
	Name     string              `json:"name"`
	Pool     fettle.PoolName     `json:"pool"`
	Verdict  api.Verdict         `json:"verdict"`
	Instance *api.InstanceStatus `json:"instance,omitempty"`
	Peers    []peer              `json:"peers"`
	Quiet    string              `json:"quiet,omitempty"` // why nothing is done
	Story    []api.LogEntry      `json:"story"`           // what was seen and done, oldest first
	// NotMeasured are the dimensions of the instance that cannot be measured, by reason.
	NotMeasured []fettle.Unmeasured `json:"notMeasured,omitempty"`
	// Destinations are the addresses that the instance calls, and how they answer.
	Destinations []api.Destination `json:"destinations,omitempty"`
	// Syscalls are the system calls that it made in a moment just now; only with --syscalls.
	Syscalls []api.SystemCall `json:"syscalls,omitzero"`

	pool *api.PoolStatus
}

type peer struct {
	ID    fettle.InstanceID `json:"id"`
	Level fettle.Level      `json:"level"`
	Score float64           `json:"score"`
}

// storyKinds are the events that explain what was seen and done.
var storyKinds = []string{"judged", "opened", "closed", "trial", "declined", "recovered", "exited", "unresponsive", "responsive", "exceeded", "commanded", "braked"}

func (c *cli) explainCommand() *cobra.Command {
	var syscalls bool
	cmd := &cobra.Command{
		Use:   "explain INSTANCE|POOL",
		Short: "What the verdict is, by what evidence, what was done, and whether it helped",
		Long: `Says in words how an instance or a pool behaves compared with what is usual, by what evidence, since when, and how
its peers do; whom it calls and how they answer; what is foreseen; what was done about it and whether that helped,
or why nothing is done; and what cannot be measured here.

With --syscalls the system calls of the instance are counted for a moment. All programs on the machine that make
system calls are a little slower meanwhile; asked for again and again, it waits so that the budget of 3 % is kept.`,
		Example: `  fettle explain web-3
  fettle explain web
  fettle explain web-3 --syscalls
  fettle explain web-3 -o json`,
		Args: exactly("INSTANCE or POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			e, err := explain(cmd.Context(), cl, args[0])
			if err != nil {
				return err
			}
			if syscalls {
				if err := countCalls(cmd.Context(), cl, &e); err != nil {
					return err
				}
			}
			if c.format == "json" {
				return c.printJSON(e)
			}
			c.printExplanation(&e)
			return nil
		},
	}
	cmd.Flags().BoolVar(&syscalls, "syscalls", false, "count the system calls of the instance for a moment")
	return cmd
}

func explain(ctx context.Context, cl *client.Client, name string) (e explanation, err error) {
	e = explanation{Name: name, Peers: []peer{}, Story: []api.LogEntry{}}
	filter := api.LogFilter{Kinds: storyKinds, Limit: 30}
	ps, err := cl.Pools(ctx)
	if err != nil {
		return e, err
	}
	p, err := poolNamed(ps, name)
	if err == nil {
		e.Verdict = p.Verdict
	} else {
		var in *api.InstanceStatus
		if p, in, err = instanceNamed(ps, name); err != nil {
			return e, unknownName(ps, name, "neither a pool nor an instance")
		}
		e.Instance, e.Verdict, e.Quiet, filter.Instance = in, in.Verdict, in.Quiet, in.ID
		e.NotMeasured = in.Unavailable.ByReason()
		// One that has gone meanwhile calls nobody.
		if e.Destinations, err = cl.Destinations(ctx, in.ID); err != nil && !errors.Is(err, fettle.ErrNotFound) {
			return e, err
		}
	}
	e.Pool, e.pool, filter.Pool = p.Name, p, p.Name
	for i := range p.Instances {
		if in := &p.Instances[i]; string(in.ID) != name {
			e.Peers = append(e.Peers, peer{in.ID, in.Level, in.Score})
		}
	}
	err = cl.Log(ctx, filter, func(l api.LogEntry) error {
		e.Story = append(e.Story, l)
		return nil
	})
	return e, err
}

func (c *cli) printExplanation(e *explanation) {
	p := painter(c.out)
	v := &e.Verdict
	c.say("%s", p.bold(sentence(e)))
	if e.Instance != nil {
		c.printInstance(e.Instance)
	}
	if v.Since != nil && v.Level >= fettle.Low {
		c.say("  since      %s (%s ago)", v.Since.Local().Format(time.TimeOnly), span(time.Since(*v.Since)))
	}
	if why := workUnknown(e); why != "" {
		c.say("  cause      unknown: %s", why)
	}
	c.printEvidence(p, v)
	c.printDestinations(p, e.Destinations)
	c.printSyscalls(p, e.Syscalls)
	if f := v.Forecast; f != nil {
		c.say("\n  forecast   %s reaches %s at about %s, in %s", f.Dimension, significant(f.Limit), f.At.Local().Format(time.TimeOnly), span(time.Until(f.At)))
	}
	if len(e.Peers) > 0 {
		c.say("\n  %s   %s", map[bool]string{true: "peers   ", false: "members "}[e.Instance != nil], peersLine(p, e.Peers))
	}
	if e.Quiet != "" {
		c.say("\n  nothing is done: %s", e.Quiet)
	}
	if len(e.Story) > 0 {
		c.say("\n  what was seen and done")
		for _, l := range e.Story {
			c.say("    %s  %s", p.dim(l.At.Local().Format(time.TimeOnly)), l.Text)
		}
	}
	if len(e.NotMeasured) > 0 {
		c.printUnmeasured(e.NotMeasured)
	}
}

// sentence is the verdict in words.
func sentence(e *explanation) string {
	v := &e.Verdict
	if v.Level == fettle.Learning {
		switch {
		case v.FirstVerdictIn.D() >= time.Second:
			return fmt.Sprintf("%s is being learnt (%.0f %%); the first verdict can be expected in %s.", e.Name, 100*v.Progress, span(v.FirstVerdictIn.D()))
		case v.Progress >= 1 || v.FirstVerdictIn > 0:
			return fmt.Sprintf("%s is being learnt; the first verdict can be expected any moment.", e.Name)
		}
		return fmt.Sprintf("%s is being learnt (%.0f %%).", e.Name, 100*v.Progress)
	}
	if v.Text != "" {
		return strings.TrimSuffix(v.Text, ".") + "."
	}
	return fmt.Sprintf("%s is %s.", e.Name, v.Level)
}

func (c *cli) printInstance(in *api.InstanceStatus) {
	rate, p50, p99, errs := traffic(in.Figures)
	if in.Label != "" {
		c.say("  %s, runs for %s, generation %d, pid %d at %s", in.Label, span(in.Age.D()), in.Generation, in.PID, dash(in.Endpoint))
	} else {
		c.say("  %s for %s, generation %d, work %s, pid %d at %s", in.Phase, span(in.Age.D()), in.Generation, in.Work, in.PID, dash(in.Endpoint))
	}
	served := "no requests"
	if in.Figures.Rate > 0 {
		served = fmt.Sprintf("%s, p50 %s, p99 %s, errors %s", rate, p50, p99, errs)
	}
	c.say("  now        %s, cpu %.2f, memory %s", served, in.Figures.CPU, bytesOf(in.Figures.Memory))
	if in.Operation != "" {
		c.say("  doing      %s", in.Operation)
	}
	if in.Trial != "" {
		c.say("  trying     %s", in.Trial)
	}
	if in.Unresponsive {
		c.say("  it does not answer")
	}
	if in.LastError != "" {
		c.say("  last error %s", strings.ReplaceAll(strings.TrimSpace(in.LastError), "\n", "\n             "))
	}
}

func (c *cli) printEvidence(p paint, v *api.Verdict) {
	if len(v.Evidence) == 0 || v.Level < fettle.Low {
		return
	}
	fmt.Fprintln(c.out)
	t := newTable(p, "DIMENSION", ">NOW", ">USUAL", ">DEVIATION")
	for _, e := range v.Evidence {
		t.row(e.Dimension, quantity(e.Value, e.Unit), quantity(e.Usual, e.Unit), fmt.Sprintf("%+.1f sd", e.Z))
	}
	t.print(c.out, "  ")
}

func peersLine(p paint, peers []peer) string {
	var out []string
	for _, x := range peers {
		s := fmt.Sprintf("%s %s", x.ID, x.Level)
		if x.Level >= fettle.Steady {
			s += fmt.Sprintf(" %.1f", x.Score)
		}
		out = append(out, p.level(x.Level, s))
	}
	return strings.Join(out, ", ")
}

// printUnmeasured tells what cannot be measured, a line for each reason.
func (c *cli) printUnmeasured(us []fettle.Unmeasured) {
	c.say("\n  not measured")
	for _, u := range us {
		for i, l := range wrap(strings.Join(u.Dimensions, ", ")+": "+u.Why, pageWidth-6) {
			c.say("    %s%s", map[bool]string{true: "  "}[i > 0], l)
		}
	}
}
