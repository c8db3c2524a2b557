package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
)

// What is to be reached.
const (
	leastRight  = 0.95
	mostUnknown = 0.10
)

// tell prints the matrices and the numbers, and writes the file where all was measured.
func (b *bench) tell(out io.Writer, all []*outcome) error {
	r := report.New("cause")
	b.notes(r, all)
	b.rows(r, all)
	r.End()
	if b.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return err
		}
	} else {
		scoped := slices.DeleteFunc(slices.Clone(all), func(o *outcome) bool { return !o.scoped() })
		small := slices.DeleteFunc(slices.Clone(all), func(o *outcome) bool { return o.scoped() })
		matrix(out, "cause and scope, pools of 3 and more", scoped, true)
		matrix(out, "cause, pools of 1 and 2", small, false)
		perScenario(out, scoped)
		if b.verbose {
			wrong(out, all)
		}
		if err := r.Print(out); err != nil {
			return err
		}
	}
	if b.out == "" && b.whole {
		b.out = "bench/results/cause.json"
	}
	if b.out == "" {
		return nil
	}
	return r.Write(b.out)
}

func (b *bench) notes(r *report.Report, all []*outcome) {
	r.Peer("gunicorn", lastWord(report.First("gunicorn", "--version")))
	r.Peer("node", strings.TrimPrefix(report.First("node", "--version"), "v"))
	r.Peer("redis", redisVersion.FindString(report.First("redis-server", "--version")))
	r.Note("pools of %d under open-loop load, recorded once for each application and seed; smaller pools are made of rows of the same recordings", members)
	r.Note("a frame each %s, %s of learning within %s of healthy time, scenarios of %s", b.interval, b.learn, b.healthy, b.during)
	r.Note("the answer to a stretch is the strongest verdict that stood in it for three frames; of pools of 1 and 2 the cause only")
	r.Note("slow dependency is right as dependency changed, pool; it is not applicable to Redis, which calls nobody, nor is a slow lock: it has one thread")
	seen := map[*stretch]bool{}
	var requests, lost int64
	busy := 0
	for _, o := range all {
		if !seen[o.stretch] {
			seen[o.stretch] = true
			requests, lost = requests+o.Requests, lost+o.Wrong
			busy += int(one(o.Late == 0 || o.Late > mostLate.Seconds())) // 0: not measured
		}
	}
	r.Note("seeds %v; intervals are of bootstrap resamples of stretches", b.seeds)
	r.Note("a stretch during which the bench's own timers were more than %s late in the mean was recorded again, up to %d times; of %d it is not known or they were still", mostLate, again, busy)
	r.Note("%d stretches, %d requests, %d of them without an answer", len(seen), requests, lost)
}

var redisVersion = regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)

func lastWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return strings.Trim(f[len(f)-1], "()")
}

// tally is the shares of right, unknown and missed among the pools that saw a stretch, one value a stretch: its pools of
// several sizes are not independent of each other.
type tally struct{ right, unknown, missed []float64 }

func count(all []*outcome, which func(*outcome) bool) tally {
	var t tally
	var last *stretch
	pools := 0.0
	for _, o := range all { // a stretch's outcomes stand side by side
		if o.Kind == control || !which(o) {
			continue
		}
		if o.stretch != last {
			last, pools = o.stretch, 0
			t.right, t.unknown, t.missed = append(t.right, 0), append(t.unknown, 0), append(t.missed, 0)
		}
		pools++
		i := len(t.right) - 1
		t.right[i] += (one(o.right()) - t.right[i]) / pools
		t.unknown[i] += (one(o.unknown()) - t.unknown[i]) / pools
		t.missed[i] += (one(o.said == nil) - t.missed[i]) / pools
	}
	return t
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// rows are the numbers of the report.
func (b *bench) rows(r *report.Report, all []*outcome) {
	add := func(of string, most bool, which func(*outcome) bool) {
		t := count(all, which)
		if len(t.right) == 0 {
			return
		}
		right := report.Row{Metric: "right: " + of, Unit: "share", Better: report.Higher}
		if !most {
			r.Add(right.FromMean(t.right))
			return
		}
		unknown := report.Row{Metric: "unknown: " + of, Unit: "share", Better: report.Lower}
		right.Budget, unknown.Budget = new(leastRight), new(mostUnknown)
		r.Add(right.FromMean(t.right))
		r.Add(unknown.FromMean(t.unknown))
		r.Add(report.Row{Metric: "no verdict: " + of, Unit: "share", Better: report.Lower}.FromMean(t.missed))
	}
	add("cause and scope, pools of 3, 4 and 8", true, func(o *outcome) bool { return o.scoped() })
	add("cause, pools of 1 and 2", true, func(o *outcome) bool { return !o.scoped() })
	for _, n := range b.sizes {
		add(fmt.Sprintf("pools of %d", n), true, func(o *outcome) bool { return o.n == n })
	}
	for i := range b.apps {
		add(b.apps[i].name+", pools of 3, 4 and 8", false, func(o *outcome) bool { return o.scoped() && o.App == b.apps[i].name })
	}
	for _, s := range b.scenarios {
		add(s.String()+", pools of 3, 4 and 8", false, func(o *outcome) bool { return o.scoped() && o.scenario() == s })
	}
	confusion(r, all)
	var named, alarms []float64
	seen := map[*stretch]bool{}
	for _, o := range all {
		if o.Kind == control {
			alarms = append(alarms, one(o.said != nil))
		}
		if o.Kind == dependency && !seen[o.stretch] {
			seen[o.stretch] = true
			named = append(named, one(o.Named))
		}
	}
	if len(named) > 0 {
		r.Add(report.Row{Metric: "slow dependency: the destination is named", Unit: "share", Better: report.Higher}.FromMean(named))
	}
	if len(alarms) > 0 {
		r.Add(report.Row{Metric: "stretches without a change that get a verdict", Unit: "share", Better: report.Lower}.FromMean(alarms))
	}
}

// confusion adds the matrix of pools of 3 and more.
func confusion(r *report.Report, all []*outcome) {
	cols := columns(true)
	for _, truth := range append(cols, column{"NO CHANGE", func(a answer) bool { return a == answer{} }}) {
		cells := map[string]int{}
		right := map[string]report.Better{}
		for _, o := range all {
			if !o.scoped() || !truth.is(o.scenario().truth()) {
				continue
			}
			said := "other instance"
			switch i := cell(o, cols); {
			case i < len(cols):
				said = cols[i].name
			case i < len(cols)+2:
				said = []string{"unknown", "no verdict"}[i-len(cols)]
			}
			cells[said]++
			right[said] = report.Lower
			if o.right() {
				right[said] = report.Higher
			}
		}
		for _, said := range slices.Sorted(maps.Keys(cells)) {
			r.Add(report.Row{
				Metric: strings.ToLower(truth.name + ": " + said), Value: float64(cells[said]), Unit: "answers", Better: right[said],
			})
		}
	}
}

// column of a matrix.
type column struct {
	name string
	is   func(a answer) bool
}

func columns(scoped bool) []column {
	var out []column
	for _, c := range []struct {
		cause ft.Cause
		name  string
	}{{ft.WorkloadChanged, "WORKLOAD"}, {ft.InstanceChanged, "INSTANCE"}, {ft.DependencyChanged, "DEPENDENCY"}} {
		if !scoped {
			out = append(out, column{c.name, func(a answer) bool { return a.cause == c.cause }})
			continue
		}
		for _, e := range []struct {
			extent ft.Extent
			name   string
		}{{ft.ThisInstance, ", ONE"}, {ft.WholePool, ", POOL"}} {
			out = append(out, column{c.name + e.name, func(a answer) bool { return a.cause == c.cause && a.extent == e.extent }})
		}
	}
	return out
}

// matrix prints how often which answer was given where which was right.
func matrix(out io.Writer, title string, all []*outcome, scoped bool) {
	if len(all) == 0 {
		return
	}
	cols := columns(scoped)
	fmt.Fprintf(out, "%s\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"TRUTH"}
	for _, c := range cols {
		head = append(head, c.name)
	}
	fmt.Fprintln(w, strings.Join(append(head, "UNKNOWN", "MISSED", "OTHER INSTANCE", "RIGHT"), "\t")+"\t")
	for _, truth := range append(cols, column{"NO CHANGE", func(a answer) bool { return a == answer{} }}) {
		cells := make([]int, len(cols)+3)
		right, total := 0, 0
		for _, o := range all {
			if !truth.is(o.scenario().truth()) {
				continue
			}
			total++
			right += int(one(o.right()))
			cells[cell(o, cols)]++
		}
		if total == 0 {
			continue
		}
		line := []string{truth.name}
		for _, n := range cells {
			line = append(line, fmt.Sprint(n))
		}
		fmt.Fprintln(w, strings.Join(append(line, fmt.Sprintf("%.0f %%", 100*float64(right)/float64(total))), "\t")+"\t")
	}
	_ = w.Flush() // to a terminal or a file that fails at the next write too
	fmt.Fprintln(out)
}

// cell is the column of an outcome: those of the answers, then unknown, missed, and the right answer of a wrong instance.
func cell(o *outcome, cols []column) int {
	switch {
	case o.said == nil:
		return len(cols) + 1
	case o.unknown():
		return len(cols)
	case o.scoped() && o.said.extent == ft.ThisInstance && o.Kind != control && o.said.answer == o.scenario().truth() && !o.right():
		return len(cols) + 2
	}
	return slices.IndexFunc(cols, func(c column) bool { return c.is(o.said.answer) })
}

// perScenario prints how many are right for each application.
func perScenario(out io.Writer, all []*outcome) {
	apps, kinds := []string{}, []scenario{}
	for _, o := range all {
		if !slices.Contains(apps, o.App) {
			apps = append(apps, o.App)
		}
	}
	for _, s := range scenarios() {
		if slices.ContainsFunc(all, func(o *outcome) bool { return o.scenario() == s }) {
			kinds = append(kinds, s)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RIGHT OF ALL\t"+strings.ToUpper(strings.Join(apps, "\t"))+"\tWRONG ANSWERS")
	for _, s := range kinds {
		line, said := []string{s.String()}, map[string]int{}
		for _, a := range apps {
			right, total := 0, 0
			for _, o := range all {
				if o.App != a || o.scenario() != s {
					continue
				}
				total++
				if o.right() {
					right++
				} else {
					said[o.answered()]++
				}
			}
			if total == 0 {
				line = append(line, "not applicable")
				continue
			}
			line = append(line, fmt.Sprintf("%d of %d", right, total))
		}
		var rest []string
		for text, n := range said {
			rest = append(rest, fmt.Sprintf("%d %s", n, text))
		}
		slices.Sort(rest)
		slices.Reverse(rest)
		fmt.Fprintln(w, strings.Join(append(line, strings.Join(rest, "; ")), "\t"))
	}
	_ = w.Flush() // as above
	fmt.Fprintln(out)
}

// answered is the answer in words.
func (o *outcome) answered() string {
	if o.said == nil {
		return "missed"
	}
	who := ""
	if o.scoped() && o.said.extent == ft.ThisInstance && o.said.id != ft.InstanceID(o.Victim) {
		who = " (a healthy one)"
		if o.All {
			who = ""
		}
	}
	return o.said.cause.String() + ", " + o.said.extent.String() + who
}

// wrong prints each wrong answer with its evidence.
func wrong(out io.Writer, all []*outcome) {
	for _, o := range all {
		if o.right() {
			continue
		}
		text := ""
		if o.said != nil {
			text = fmt.Sprintf(" of %s after %.1f s, %d frames: %s", o.said.subject(), o.delay.Seconds(), o.said.rows, o.said.text)
		}
		fmt.Fprintf(out, "%s, seed %d, %s, N = %d, victim %s: %s%s\n", o.App, o.Seed, o.scenario(), o.n, o.Victim, o.answered(), text)
	}
	fmt.Fprintln(out)
}

func (s *standing) subject() string {
	if s.id == "" {
		return "the pool"
	}
	return string(s.id)
}
