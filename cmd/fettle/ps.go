package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

func (c *cli) psCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ps [POOL...]",
		Short: "Pools and instances at a glance",
		Long: `Shows each pool and its instances: level and drift score (1 is the instance's threshold), what changed, the
objective's figures, and what is being done. While an instance is being learnt, it says when the first verdict comes.`,
		Example: `  fettle ps
  fettle ps web
  fettle ps -o json | jq '.[].instances[] | {id, level, score}'`,
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
			if c.format == "json" {
				return c.printJSON(ps)
			}
			c.printPools(ps)
			return nil
		},
	}
}

// pick keeps the named pools; all where none is named.
func pick(ps []api.PoolStatus, names []string) ([]api.PoolStatus, error) {
	if len(names) == 0 {
		return ps, nil
	}
	var out []api.PoolStatus
	for _, n := range names {
		p, err := poolNamed(ps, n)
		if err != nil {
			return nil, err
		}
		out = append(out, *p)
	}
	return out, nil
}

func (c *cli) printPools(ps []api.PoolStatus) {
	if len(ps) == 0 {
		c.say("no pools")
		return
	}
	p := painter(c.out)
	pools := newTable(p, "POOL", "ADDRESS", "MODE", ">READY", ">DRIFTING", ">RATE", ">P50", ">P99", ">ERRORS", "STATE")
	for i := range ps {
		s := &ps[i]
		rate, p50, p99, errs := traffic(s.Figures)
		ready := fmt.Sprintf("%d/%d", s.Ready, s.Desired)
		if s.Config.Watch != nil {
			ready = fmt.Sprint(s.Ready) // there is no number that there should be
		}
		pools.row(p.bold(string(s.Name)), dash(s.Address), s.Mode.String(), ready,
			fmt.Sprint(s.Drifting), rate, p50, p99, errs, poolState(p, s))
	}
	pools.print(c.out, "")
	fmt.Fprintln(c.out)
	t := newTable(p, "INSTANCE", "PHASE", ">AGE", "LEVEL", "SCORE", "CAUSE", ">CPU", ">MEMORY", ">RATE", ">P99", "DOING")
	for i := range ps {
		for j := range ps[i].Instances {
			instanceRow(t, p, &ps[i].Instances[j])
		}
	}
	t.print(c.out, "")
}

func instanceRow(t *table, p paint, in *api.InstanceStatus) {
	score := fmt.Sprintf("%.1f", in.Score)
	if p {
		score = p.level(in.Level, bar(in.Score)) + " " + score
	}
	if in.Level == fettle.Learning {
		score = "-"
	}
	cause := "-"
	if in.Level >= fettle.Low {
		cause = in.Cause.String()
		if in.Extent == fettle.WholePool {
			cause += " (pool)"
		}
	}
	rate, _, p99, _ := traffic(in.Figures)
	ref := fettle.Ref{ID: in.ID, Generation: in.Generation}
	t.row(ref.String(), in.Phase.String(), span(in.Age.D()), p.level(in.Level, in.Level.String()), score, cause,
		fmt.Sprintf("%.2f", in.Figures.CPU), bytesOf(in.Figures.Memory), rate, p99, cut(doing(in), 60))
}

// doing is what there is to say of an instance.
func doing(in *api.InstanceStatus) string {
	s := urgent(in)
	switch {
	case !in.Outdated:
		return dash(s)
	case s == "":
		return "outdated: restart replaces it"
	default:
		return "outdated; " + s
	}
}

// urgent is the most urgent thing to say of an instance.
func urgent(in *api.InstanceStatus) string {
	switch {
	case in.Operation != "":
		return in.Operation
	case in.Unresponsive:
		return "does not answer"
	case in.LastError != "" && in.Phase != fettle.Ready:
		return firstLine(in.LastError)
	case in.Trial != "":
		return "trying " + in.Trial
	case in.Ejected:
		return "out of routing after failures"
	case in.Level == fettle.Learning && in.Phase == fettle.Ready:
		return learningText(in.Progress, in.FirstVerdictIn.D())
	case in.Quiet != "":
		return in.Quiet
	case in.Label != "":
		return fmt.Sprintf("%s, pid %d", in.Label, in.PID)
	default:
		return ""
	}
}

func poolState(p paint, s *api.PoolStatus) string {
	var out []string
	add := func(is bool, text string) {
		if is {
			out = append(out, text)
		}
	}
	add(s.Stalled != "", p.red("stalled: "+s.Stalled))
	add(s.Degraded, p.red("degraded: "+firstLine(s.DegradedWhy)+nextTry(s)))
	add(s.Journal != "", p.red("journal: "+firstLine(s.Journal)))
	add(s.Paused, p.yellow("paused"))
	add(s.Breaker != "", p.yellow("breaker: "+s.Breaker))
	add(s.Note != "", p.yellow(s.Note))
	add(s.Config.Watch != nil && len(s.Instances) == 0 && s.Note == "", p.dim("nothing is there yet"))
	add(s.HoldOff != "" && s.Drifting > 0, p.yellow("hold-off: "+s.HoldOff))
	add(s.Verdict.Level >= fettle.Low, p.level(s.Verdict.Level, fmt.Sprintf("%s (%s)", s.Verdict.Cause, s.Verdict.Level)))
	add(s.Config.Watch == nil && s.Ready < s.Desired && len(out) == 0, comingUp(p, s))
	if least, first, is := learningOf(s); is && len(out) == 0 {
		out = append(out, p.dim(learningText(least, first)))
	}
	if len(out) == 0 {
		return p.green("in order")
	}
	return strings.Join(out, "; ")
}

// comingUp is what there is to say of a pool with less instances than it should have and no fault.
func comingUp(p paint, s *api.PoolStatus) string {
	first := s.Ready == 0
	for i := range s.Instances {
		in := &s.Instances[i]
		first = first || in.Phase <= fettle.Warming && in.Generation == 1
	}
	text := fmt.Sprintf("%d of %d ready", s.Ready, s.Desired)
	if first {
		return p.dim("starting: " + text)
	}
	return p.yellow(text)
}

// learningOf is how far the instances of a pool that are still being learnt are: the least progress, and the time until the
// last of them can be judged.
func learningOf(s *api.PoolStatus) (least float64, first time.Duration, is bool) {
	least = 1
	for i := range s.Instances {
		if in := &s.Instances[i]; in.Phase == fettle.Ready && in.Level == fettle.Learning {
			least, first, is = min(least, in.Progress), max(first, in.FirstVerdictIn.D()), true
		}
	}
	return least, first, is
}

// learningText says how far learning is. Nobody is told of no seconds: the verdict comes with one of the next measurements.
func learningText(progress float64, first time.Duration) string {
	if first < time.Second {
		return "learning, first verdict any moment"
	}
	return fmt.Sprintf("learning %.0f %%, first verdict in %s", 100*progress, span(first))
}

// traffic prints the objective's figures, dashes where nothing was served.
func traffic(f fettle.Figures) (rate, p50, p99, errs string) {
	if f.Rate <= 0 {
		return "-", "-", "-", "-"
	}
	return significant(f.Rate) + "/s", latency(f.P50), latency(f.P99), fmt.Sprintf("%.1f %%", 100*f.Errors)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
