package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
)

var update = flag.Bool("update", false, "write what the scenarios print into their files")

// TestScenarios runs the scripts in testdata. A line of a script is a command; the indented lines under it are what
// was decided meanwhile, written by -update and compared otherwise. "expect" asserts what must hold whatever the
// exact times are. See [script.do] for the commands.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(want))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("decisions differ from %s (-update writes them):\n%s", f, differ(string(want), got))
			}
		})
	}
}

// differ shows the first lines that differ.
func differ(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(w) && i < len(g) && w[i] == g[i] {
		i++
	}
	show := func(lines []string) string { return strings.Join(lines[min(i, len(lines)):min(i+8, len(lines))], "\n") }
	return fmt.Sprintf("line %d\nwant:\n%s\ngot:\n%s", i+1, show(w), show(g))
}

func runScript(t *testing.T, text string) string {
	s := &script{t: t}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if strings.HasPrefix(line, " ") {
			continue // output of an earlier run
		}
		s.out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.do(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		s.flush()
	}
	if s.b != nil {
		s.b.checkReplay()
	}
	return s.out.String()
}

// script is a scenario under way.
type script struct {
	t     *testing.T
	b     *brain
	out   bytes.Buffer
	lines []line
	since []ft.Event // since the last mark
}

// line is one of output; lines that differ in the instance only are joined.
type line struct {
	at         time.Duration
	head, tail string
	ids        []string
}

// do runs a command:
//
//	pool NAME n=N [max=N] [mode=M] [young=D] [memory=S] [capacity=N] [perhour=N] [soft=no] [seed=N] [rate=R]
//	run D
//	load xF | mix ID usual|reports | leak ID SIZE/s | fdleak ID N/s | slow ID D | spin ID CORES
//	hang ID | wake ID | crash ID | fail start [N]
//	journal ok|fail|hang | restart brain
//	pause | resume | scale N | restart [ID] | evict ID | reset-soft ID | reset-full ID | adjust ID KNOB VALUE | accept [ID] | forget [ID] | stop
//	mark                                      what follows "expect" looks at events since then
//	expect ready|running|desired N            in the summary
//	expect untouched [ID]                     nothing was done (to it)
//	expect no OPERATION [ID]                  no such operation was opened
//	expect done OPERATION [ID]                one was, and ended well
//	expect no-done OPERATION [ID]             none ended well
//	expect opened OPERATION [ID]              one was
//	expect verdict ID|pool CAUSE [DIM...]     at level low or above, with that cause, by one of the dimensions
//	expect quiet ID|pool                      no verdict at level low or above
//	expect declined RULE [ID]
//	expect brake NAME on|off
//	expect steady ID                          now below low
//	expect generation ID N
//	expect gone ID
//	expect degraded | paused                  in the summary
func (s *script) do(words []string) error {
	verb, args := words[0], words[1:]
	if verb == "pool" {
		return s.pool(args)
	}
	if s.b == nil {
		return fmt.Errorf("the first command is pool")
	}
	switch verb {
	case "run":
		d, err := time.ParseDuration(arg(args, 0))
		if err != nil {
			return err
		}
		s.b.run(d)
		return nil
	case "mark":
		s.since = nil
		return nil
	case "expect":
		return s.expect(args)
	case "journal":
		return s.journal(arg(args, 0))
	case "pause", "resume", "scale", "evict", "reset-soft", "reset-full", "adjust", "accept", "forget", "stop", "restart":
		if verb == "restart" && arg(args, 0) == "brain" {
			s.b.restart()
			return nil
		}
		return s.command(verb, args)
	default:
		return s.plant(verb, args)
	}
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func (s *script) pool(args []string) error {
	p := ft.Pool{Name: ft.PoolName(arg(args, 0)), Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
	c := Config{Seed: 1}
	p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset"}}
	for _, a := range args[min(1, len(args)):] {
		key, v, _ := strings.Cut(a, "=")
		if err := setting(&p, &c, key, v); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	p.Defaults()
	if errs := p.Validate(); len(errs) > 0 {
		return fmt.Errorf("%v", errs)
	}
	if s.b != nil {
		s.b.checkReplay()
	}
	s.since = nil
	s.b = newBrain(s.t, p, c, s.heard)
	return nil
}

func setting(p *ft.Pool, c *Config, key, v string) (err error) {
	switch key {
	case "n":
		p.Size.Min, err = strconv.Atoi(v)
	case "max":
		p.Size.Max, err = strconv.Atoi(v)
	case "mode":
		err = p.Mode.UnmarshalText([]byte(v))
	case "young":
		err = p.Heal.Young.UnmarshalText([]byte(v))
	case "memory":
		err = p.Limits.Memory.UnmarshalText([]byte(v))
	case "capacity":
		p.Heal.CapacityAbove, err = strconv.Atoi(v)
	case "perhour":
		p.Heal.PerHour, err = strconv.Atoi(v)
	case "holdback":
		p.Heal.HoldBack, err = strconv.ParseFloat(v, 64)
	case "soft":
		c.NoSoftReset = v == "no"
		p.Image.Hooks.SoftReset = nil
	case "seed":
		c.Seed, err = strconv.ParseUint(v, 10, 64)
	case "rate":
		c.Rate, err = strconv.ParseFloat(v, 64)
	default:
		err = fmt.Errorf("no such setting")
	}
	return err
}

func (s *script) journal(how string) error {
	j := s.b.journal
	j.failing, j.hanging = "", false
	switch how {
	case "ok":
	case "fail":
		j.failing = "disk full"
	case "hang":
		j.hanging = true
	default:
		return fmt.Errorf("journal ok, fail or hang")
	}
	return nil
}

func (s *script) command(kind string, args []string) error {
	c := ft.Command{Kind: kind, By: "script", Target: ft.InstanceID(arg(args, 0))}
	var err error
	switch kind {
	case "scale":
		c.Target = ""
		c.Size, err = strconv.Atoi(arg(args, 0))
	case "adjust":
		c.Set = &ft.Setting{Knob: arg(args, 1)}
		c.Set.Value, err = strconv.ParseFloat(arg(args, 2), 64)
	}
	s.b.posted = append(s.b.posted, &ft.Commanded{Stamp: ft.Stamp{At: s.b.now}, Command: c})
	s.b.wake = s.b.now
	return err
}

func (s *script) plant(verb string, args []string) error {
	w, id, v := s.b.world, ft.InstanceID(arg(args, 0)), arg(args, 1)
	switch verb {
	case "load":
		f, err := strconv.ParseFloat(strings.TrimPrefix(arg(args, 0), "x"), 64)
		w.Load(f)
		return err
	case "mix":
		return w.Mix(id, v)
	case "leak":
		var n ft.Size
		if err := n.UnmarshalText([]byte(strings.TrimSuffix(v, "/s"))); err != nil {
			return err
		}
		return w.Leak(id, float64(n))
	case "fdleak":
		f, err := strconv.ParseFloat(strings.TrimSuffix(v, "/s"), 64)
		if err != nil {
			return err
		}
		return w.LeakDescriptors(id, f)
	case "slow":
		d, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		return w.Slow(id, d)
	case "spin":
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return err
		}
		return w.Spin(id, f)
	case "hang":
		return w.Hang(id)
	case "wake":
		return w.Wake(id)
	case "crash":
		return w.Crash(id)
	case "fail":
		n, err := -1, error(nil)
		if len(args) > 1 {
			n, err = strconv.Atoi(v)
		}
		w.FailStarts(n, "exited with status 1 after 0.1s")
		return err
	}
	return fmt.Errorf("no such command")
}

// heard gets every event.
func (s *script) heard(e ft.Event) {
	s.since = append(s.since, e)
	head, tail, ok := words(e)
	if !ok {
		return
	}
	at, id := e.When().Sub(epoch).Round(time.Second), ft.EventRef(e).String()
	if ft.EventRef(e).ID == "" {
		id = string(s.b.pool.Name)
	}
	for i := range s.lines {
		if l := &s.lines[i]; l.at == at && l.head == head && l.tail == tail {
			l.ids = append(l.ids, id)
			return
		}
	}
	s.lines = append(s.lines, line{at, head, tail, []string{id}})
}

// words renders what a scenario shows: decisions, and verdicts of drift by level and cause, without numbers that
// change with every digit of the model.
func words(e ft.Event) (head, tail string, ok bool) {
	switch e := e.(type) {
	case *ft.Judged:
		v := &e.Verdict
		if v.Level < ft.Low {
			return "", "", false
		}
		why := v.Cause.String() + ", " + v.Extent.String()
		if len(e.Evidence) > 0 {
			why += ", by " + e.Evidence[0].Dimension
		}
		return "judge", v.Level.String() + ": " + why, true
	case *ft.Opened:
		return "open " + e.Kind.String(), e.Reason.Rule, true
	case *ft.Closed:
		return "close " + e.Kind.String(), e.Outcome, true
	case *ft.Intended:
		if e.Action.Kind == ft.Grow {
			return "", "", false
		}
		what := e.Action.Verb.String()
		if e.Action.Verb == ft.Tune {
			what += " " + e.Action.Setting.Knob + " of"
		}
		return "do " + what, e.Action.Reason.Rule, true
	case *ft.Finished:
		if e.Skipped {
			return "skip " + e.Action.Verb.String(), "", true
		}
		if e.Err != "" {
			return "failed " + e.Action.Verb.String(), "", true
		}
		return "", "", false
	case *ft.TrialEnded:
		if e.Kept {
			return "keep " + e.Setting.Knob + " of", "", true
		}
		return "revert " + e.Setting.Knob + " of", "", true
	case *ft.Declined:
		return "leave", e.Reason.Rule, true
	case *ft.Recovered:
		return "recovered", "", true
	case *ft.Braked:
		if e.On {
			return e.Brake + " on for", "", true
		}
		return e.Brake + " off for", "", true
	case *ft.Exited:
		return "exit of", e.Exit.String(), true
	case *ft.Exceeded:
		return "limit of", e.Limit, true
	case *ft.Unresponsive:
		return "no answer of", e.Probe, true
	case *ft.Responsive:
		return "answer of", "", true
	case *ft.Missing:
		return "missing", "", true
	case *ft.JournalState:
		if e.Err != "" {
			return "journal fails for", e.Err, true
		}
		return "journal works for", "", true
	case *ft.Commanded:
		return "asked of", e.Command.Kind, true
	default:
		return "", "", false
	}
}

func (s *script) flush() {
	for _, l := range s.lines {
		ids := strings.Join(l.ids, " ")
		if len(l.ids) > 4 {
			ids = fmt.Sprintf("%s ... %s (%d)", l.ids[0], l.ids[len(l.ids)-1], len(l.ids))
		}
		text := fmt.Sprintf("  %d:%02d:%02d %s %s", int(l.at.Hours()), int(l.at.Minutes())%60, int(l.at.Seconds())%60, l.head, ids)
		if l.tail != "" {
			text += " (" + l.tail + ")"
		}
		s.out.WriteString(text + "\n")
	}
	s.lines = nil
}

func (s *script) expect(args []string) error {
	what, of := arg(args, 0), arg(args, 1)
	if ok, err := s.expectSummary(what, of); ok {
		return err
	}
	switch what {
	case "untouched":
		for _, e := range s.since {
			if touches(e) && about(e, of) {
				return fmt.Errorf("%s", e)
			}
		}
		return nil
	case "no", "no-done":
		if e := s.operation(of, arg(args, 2), what == "no-done"); e != nil {
			return fmt.Errorf("%s", e)
		}
		return nil
	case "opened", "done":
		if s.operation(of, arg(args, 2), what == "done") == nil {
			return fmt.Errorf("it was not")
		}
		return nil
	case "verdict":
		return s.expectVerdict(of, args[min(2, len(args)):])
	case "quiet":
		for _, e := range s.since {
			if j, ok := e.(*ft.Judged); ok && judgedOf(j, of) && j.Verdict.Level >= ft.Low {
				return fmt.Errorf("%s", e)
			}
		}
		return nil
	case "declined":
		return found(slices.ContainsFunc(s.since, func(e ft.Event) bool {
			d, ok := e.(*ft.Declined)
			return ok && d.Reason.Rule == of && about(e, arg(args, 2))
		}))
	case "brake":
		return found(slices.ContainsFunc(s.since, func(e ft.Event) bool {
			b, ok := e.(*ft.Braked)
			return ok && b.Brake == of && b.On == (arg(args, 2) == "on")
		}))
	}
	return s.expectMember(what, ft.InstanceID(of), arg(args, 2))
}

func found(is bool) error {
	if !is {
		return fmt.Errorf("it was not")
	}
	return nil
}

func (s *script) expectSummary(what, n string) (ok bool, err error) {
	sum := s.b.state.Summary(s.b.now)
	have := map[string]int{"ready": sum.Ready, "running": sum.Running, "desired": sum.Desired}
	if v, is := have[what]; is {
		if strconv.Itoa(v) != n {
			return true, fmt.Errorf("it is %d", v)
		}
		return true, nil
	}
	switch what {
	case "degraded":
		return true, found(sum.Degraded)
	case "paused":
		return true, found(sum.Paused)
	}
	return false, nil
}

func (s *script) expectMember(what string, id ft.InstanceID, v string) error {
	i := slices.IndexFunc(s.b.state.Members(nil), func(m plan.Member) bool { return m.ID == id })
	if what == "gone" {
		return found(i < 0)
	}
	if i < 0 {
		return fmt.Errorf("there is no %s", id)
	}
	m := s.b.state.Members(nil)[i]
	switch what {
	case "steady":
		if m.Verdict.Level >= ft.Low {
			return fmt.Errorf("%s", m.Text)
		}
		return nil
	case "generation":
		if strconv.Itoa(int(m.Generation)) != v {
			return fmt.Errorf("it is %d", m.Generation)
		}
		return nil
	}
	return fmt.Errorf("no such expectation")
}

// touches tells whether an event says that something is done to an instance in service.
func touches(e ft.Event) bool {
	i, ok := e.(*ft.Intended)
	return ok && (i.Action.Verb.Disruptive() || i.Action.Verb == ft.Tune || i.Action.Verb == ft.Specialize || i.Action.Verb == ft.Start)
}

func about(e ft.Event, id string) bool { return id == "" || string(ft.EventRef(e).ID) == id }

// operation finds the opening, or the good end, of an operation.
func (s *script) operation(kind, id string, done bool) ft.Event {
	for _, e := range s.since {
		switch x := e.(type) {
		case *ft.Opened:
			if !done && x.Kind.String() == kind && about(e, id) {
				return e
			}
		case *ft.Closed:
			if done && x.Kind.String() == kind && about(e, id) && x.Outcome == "done" {
				return e
			}
		}
	}
	return nil
}

func judgedOf(j *ft.Judged, of string) bool {
	if of == "pool" {
		return j.Verdict.Pool
	}
	return !j.Verdict.Pool && string(j.Ref.ID) == of
}

// expectVerdict looks for a verdict of drift; "workload" and "instance" stand for the causes.
func (s *script) expectVerdict(of string, args []string) error {
	var last ft.Event
	for _, e := range s.since {
		j, ok := e.(*ft.Judged)
		if !ok || !judgedOf(j, of) || j.Verdict.Level < ft.Low {
			continue
		}
		last = e
		dims := args[min(1, len(args)):]
		named := len(dims) == 0 || slices.ContainsFunc(j.Evidence, func(e ft.Evidence) bool { return slices.Contains(dims, e.Dimension) })
		if named && strings.HasPrefix(j.Verdict.Cause.String(), arg(args, 0)) {
			return nil
		}
	}
	if last == nil {
		return fmt.Errorf("it was not judged to drift")
	}
	return fmt.Errorf("it was judged: %s", last)
}
