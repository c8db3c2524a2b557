package demo

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/demo/load"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func judged(id string, cause fettle.Cause, extent fettle.Extent, dims ...string) *fettle.Judged {
	e := &fettle.Judged{
		Ref:     fettle.Ref{ID: fettle.InstanceID(id), Generation: 1},
		Verdict: fettle.Verdict{Level: fettle.High, Cause: cause, Extent: extent},
		Text:    id + " drifts: " + cause.String(),
	}
	if id == "pool" {
		e.Ref, e.Verdict.Pool = fettle.Ref{}, true
	}
	for _, d := range dims {
		e.Evidence = append(e.Evidence, fettle.Evidence{Dimension: d})
	}
	return e
}

func opened(id uint64, kind fettle.Operation, ref string) *fettle.Opened {
	return &fettle.Opened{ID: fettle.OperationID(id), Kind: kind, Ref: fettle.Ref{ID: fettle.InstanceID(ref), Generation: 1}}
}

func intended(op uint64, kind fettle.Operation, verb fettle.Verb, ref string) *fettle.Intended {
	return &fettle.Intended{Action: fettle.Action{
		Operation: fettle.OperationID(op), Kind: kind, Verb: verb, Ref: fettle.Ref{ID: fettle.InstanceID(ref), Generation: 1},
	}}
}

// on puts events on the tape, a second apart, from 101 s on: a fault planted at 100 s.
func on(events ...fettle.Event) []seen {
	var out []seen
	for i, e := range events {
		out = append(out, seen{time.Duration(101+i) * time.Second, e})
	}
	return out
}

func at(victim string, k kind) trial {
	return trial{plan: plan{kind: k}, victim: victim, planted: 100 * time.Second, acute: 150 * time.Second, ended: 160 * time.Second, cured: true}
}

func TestExpectations(t *testing.T) {
	grown := judged("web-2", fettle.InstanceChanged, fettle.ThisInstance, "cpu", fettle.DimAnon)
	slow := judged("web-2", fettle.InstanceChanged, fettle.ThisInstance, fettle.DimP50)
	mixed := judged("web-2", fettle.WorkloadChanged, fettle.ThisInstance)
	crowd := judged("pool", fettle.WorkloadChanged, fettle.WholePool)
	silent := &fettle.Unresponsive{Ref: fettle.Ref{ID: "web-2"}, Probe: "readiness"}
	soft, full := opened(1, fettle.SoftResetting, "web-2"), opened(2, fettle.FullResetting, "web-2")
	evict := opened(3, fettle.Evict, "web-2")
	for _, c := range []struct {
		name   string
		t      trial
		events []fettle.Event
		amiss  string // empty: as expected
	}{
		{"load", at("pool", loadDoubles), []fettle.Event{crowd}, ""},
		{"load, told of an instance", at("pool", loadDoubles), []fettle.Event{judged("web-1", fettle.WorkloadChanged, fettle.WholePool)}, ""},
		{"load, relearnt", at("pool", loadDoubles), []fettle.Event{crowd, intended(0, 0, fettle.Rebaseline, "web-1")}, ""},
		{"load, taken for one instance's", at("pool", loadDoubles), []fettle.Event{mixed}, "not recognised"},
		{"load, taken for a fault", at("pool", loadDoubles), []fettle.Event{judged("pool", fettle.InstanceChanged, fettle.WholePool)}, "not recognised"},
		{"load, an instance touched", at("pool", loadDoubles), []fettle.Event{crowd, intended(0, 0, fettle.Weigh, "web-1")}, "touched"},
		{"load, an instance reset", at("pool", loadDoubles), []fettle.Event{crowd, soft}, "touched"},
		{"mix, respecialised", at("web-2", mixChanges), []fettle.Event{mixed, opened(1, fettle.Respecialize, "web-2")}, ""},
		{"mix, tuned", at("web-2", mixChanges), []fettle.Event{mixed, opened(1, fettle.Retune, "web-2")}, ""},
		{"mix, relearnt", at("web-2", mixChanges), []fettle.Event{mixed, intended(0, 0, fettle.Rebaseline, "web-2")}, ""},
		{"mix, nothing done", at("web-2", mixChanges), []fettle.Event{mixed}, "neither tuned"},
		{"mix, reset", at("web-2", mixChanges), []fettle.Event{mixed, soft}, "reset although"},
		{"mix, taken for a sick instance", at("web-2", mixChanges), []fettle.Event{slow, opened(1, fettle.Retune, "web-2")}, "not recognised"},
		{"mix, seen in another", at("web-3", mixChanges), []fettle.Event{mixed, opened(1, fettle.Retune, "web-3")}, "not recognised"},
		{"leak, full reset", at("web-2", memoryLeaks), []fettle.Event{grown, soft, full}, ""},
		{"leak, evicted", at("web-2", memoryLeaks), []fettle.Event{grown, soft, evict}, ""},
		{"leak, only soft reset", at("web-2", memoryLeaks), []fettle.Event{grown, soft}, "neither fully reset"},
		{"leak, young but evicted", at("web-2", memoryLeaks), []fettle.Event{grown, evict}, "not soft reset"},
		{"leak, memory not named", at("web-2", memoryLeaks), []fettle.Event{slow, soft, full}, "not recognised"},
		{"leak, at its limit", at("web-2", memoryLeaks), []fettle.Event{grown, &fettle.Exceeded{Ref: fettle.Ref{ID: "web-2"}, Limit: "memory"}, soft, full}, "limit first"},
		{"leak, killed", at("web-2", memoryLeaks), []fettle.Event{grown, soft, &fettle.Exited{Ref: fettle.Ref{ID: "web-2"}, Exit: fettle.Exit{OOM: true}}, full}, "ended by itself"},
		{"leak, fed", at("web-2", memoryLeaks), []fettle.Event{grown, &fettle.Intended{Action: fettle.Action{
			Operation: 9, Kind: fettle.Retune, Verb: fettle.Tune, Ref: fettle.Ref{ID: "web-2"}, Setting: fettle.Setting{Knob: "memory_high", Value: 1},
		}}, soft, full}, "fed"},
		{"lock, soft reset", at("web-2", lockSlows), []fettle.Event{slow, soft}, ""},
		{"lock, tuned first", at("web-2", lockSlows), []fettle.Event{slow, opened(8, fettle.Retune, "web-2"), soft}, ""},
		{"lock, evicted", at("web-2", lockSlows), []fettle.Event{slow, soft, evict}, "lost its state"},
		{"lock, nothing done", at("web-2", lockSlows), []fettle.Event{slow}, "not soft reset"},
		{"lock, latency not named", at("web-2", lockSlows), []fettle.Event{grown, soft}, "not recognised"},
		{"hang, full reset", at("web-2", hangs), []fettle.Event{silent, full}, ""},
		{"hang, evicted", at("web-2", hangs), []fettle.Event{silent, evict}, ""},
		{"hang, replaced", at("web-2", hangs), []fettle.Event{silent, opened(1, fettle.Replace, "web-2")}, ""},
		{"hang, only seen", at("web-2", hangs), []fettle.Event{silent}, "neither fully reset"},
		{"hang, not seen", at("web-2", hangs), []fettle.Event{full}, "not recognised"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.t.judge(on(c.events...), time.Second)
			got := strings.Join(r.Amiss, "; ")
			if c.amiss == "" && got != "" || !strings.Contains(got, c.amiss) || r.AsExpected != (got == "") {
				t.Errorf("amiss %q, want %q; as expected %v", got, c.amiss, r.AsExpected)
			}
			if recognised := !strings.Contains(got, "recognised"); recognised != (r.DetectedAfter != nil) {
				t.Errorf("detected after %v", r.DetectedAfter)
			}
		})
	}
}

func TestWhatTheDemoItselfSawCounts(t *testing.T) {
	events := on(judged("web-2", fettle.InstanceChanged, fettle.ThisInstance, fettle.DimP50), opened(1, fettle.SoftResetting, "web-2"))
	for name, change := range map[string]func(*trial){
		"not cured":    func(t *trial) { t.cured = false },
		"counts":       func(t *trial) { t.amiss = []string{"3 of its 9 counts were not kept"} },
		"no event yet": func(t *trial) { t.planted = 200 * time.Second; t.ended = 260 * time.Second },
	} {
		tr := at("web-2", lockSlows)
		if r := tr.judge(events, time.Second); !r.AsExpected {
			t.Fatalf("the base is not as expected: %v", r.Amiss)
		}
		change(&tr)
		if r := tr.judge(events, time.Second); r.AsExpected {
			t.Errorf("%s: as expected", name)
		}
	}
	tr := at("web-2", hangs)
	tr.routed = 11 * time.Second
	if r := tr.judge(on(&fettle.Unresponsive{Ref: fettle.Ref{ID: "web-2"}}, opened(1, fettle.Evict, "web-2")), time.Second); r.AsExpected {
		t.Error("a hung instance that still gets requests after 11 s is out of routing at once?")
	}
}

func goesBack(id fettle.InstanceID) *fettle.Opened {
	return &fettle.Opened{ID: 9, Kind: fettle.Retune, Ref: fettle.Ref{ID: id}, Reason: fettle.Reason{Rule: "revert"}}
}

func TestActionsWithoutFault(t *testing.T) {
	lock := at("web-2", lockSlows)
	for _, c := range []struct {
		name   string
		events []seen
		trials []trial
		want   int
	}{
		{"nothing", nil, []trial{lock}, 0},
		{"the first starts", []seen{{time.Second, opened(1, fettle.Grow, "web-1")}, {2 * time.Second, intended(1, fettle.Grow, fettle.Start, "web-1")}, {11 * time.Second, intended(1, fettle.Grow, fettle.Admit, "web-1")}}, nil, 0},
		{"on the victim", on(opened(1, fettle.SoftResetting, "web-2"), intended(1, fettle.SoftResetting, fettle.SoftReset, "web-2")), []trial{lock}, 0},
		{"on its replacement", on(opened(1, fettle.Evict, "web-2"), intended(1, fettle.Evict, fettle.Start, "web-5"), intended(0, 0, fettle.Weigh, "web-5")), []trial{lock}, 0},
		{"on another", on(opened(1, fettle.SoftResetting, "web-3"), intended(1, fettle.SoftResetting, fettle.SoftReset, "web-3")), []trial{lock}, 1},
		{"without a fault", on(opened(1, fettle.Retune, "web-3"), intended(0, 0, fettle.Rebaseline, "web-1")), nil, 2},
		{"after the fault", []seen{{170 * time.Second, opened(1, fettle.SoftResetting, "web-2")}}, []trial{lock}, 1},
		{"a setting of the victim goes back", []seen{{170 * time.Second, goesBack("web-2")}}, []trial{lock}, 0},
		{"a setting of another goes back", []seen{{170 * time.Second, goesBack("web-3")}}, []trial{lock}, 1},
		{"everyone's fault", on(opened(1, fettle.Retune, "web-3"), intended(0, 0, fettle.Rebaseline, "web-1")), []trial{at("pool", loadDoubles)}, 1},
		{"not opened, but carried out", on(intended(4, fettle.Retune, fettle.Tune, "web-3"), intended(4, fettle.Retune, fettle.Tune, "web-3")), nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := withoutFault(c.events, 10*time.Second, c.trials); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	good := Result{Requests: 9, LostFault: 3, Faults: []FaultResult{{AsExpected: true}, {AsExpected: true}}}
	if !good.OK() {
		t.Error("what the fault itself lost is no failure")
	}
	for name, change := range map[string]func(*Result){
		"lost to a planned action": func(r *Result) { r.LostPlanned = 1 },
		"healthy one disrupted":    func(r *Result) { r.ActionsWithoutFault = 1 },
		"missed":                   func(r *Result) { r.Faults[1].AsExpected = false },
	} {
		bad := good
		bad.Faults = slices.Clone(good.Faults)
		change(&bad)
		if bad.OK() {
			t.Errorf("%s: exit code 0", name)
		}
	}
}

func example() Result {
	s := 4.2
	w := func(p50, p99 int) load.Window {
		return load.Window{Requests: 100, P50: time.Duration(p50) * 100 * time.Microsecond, P99: time.Duration(p99) * 100 * time.Microsecond}
	}
	return Result{
		Requests: 123456, LostFault: 7, Faults: []FaultResult{
			{
				Name: "slow-lock", PlantedAt: 131.5, Victim: "web-3", DetectedAfter: &s, Verdict: "web-3 drifts (high, 4.2)",
				Cause: "instance changed", Actions: []string{"soft-reset web-3"}, Cured: true, Expected: kinds[lockSlows].expected, AsExpected: true,
				Before: w(13, 81), During: w(62, 190), After: w(12, 80),
			},
			{
				Name: "leak", PlantedAt: 190, Victim: "web-1", Actions: []string{}, Expected: kinds[memoryLeaks].expected,
				Amiss: []string{"the fault was not recognised", "not cured"},
			},
		},
	}
}

func TestJSON(t *testing.T) {
	b, err := json.MarshalIndent(example(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", string(b)+"\n")
}

func TestTable(t *testing.T) {
	golden(t, "table.txt", table(example()))
	if none := table(Result{Requests: 5}); strings.Contains(none, "FAULT") || !strings.Contains(none, "all as expected") {
		t.Errorf("table without faults:\n%s", none)
	}
}

func TestParseFaults(t *testing.T) {
	for in, want := range map[string][]kind{
		"":               {loadDoubles, mixChanges, memoryLeaks, lockSlows, hangs},
		"all":            {loadDoubles, mixChanges, memoryLeaks, lockSlows, hangs},
		"none":           nil,
		"hang":           {hangs},
		"leak, load":     {memoryLeaks, loadDoubles},
		"leak,leak,leak": {memoryLeaks},
	} {
		got, err := parseFaults(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"x", "leak,", "LOAD"} {
		if _, err := parseFaults(in); err == nil || !strings.Contains(err.Error(), "slow-lock") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestSeedPlans: a seed plans the same however fast, faults that are left out do not change the others, and over seeds
// every order and every victim occurs.
func TestSeedPlans(t *testing.T) {
	all, _ := parseFaults("all")
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		speed := rapid.Float64Range(0.5, 20).Draw(t, "speed")
		a, b := draw(seed, all, 1), draw(seed, all, speed)
		alone := draw(seed, []kind{memoryLeaks}, 1)
		seenKinds := map[kind]bool{}
		for i := range a {
			seenKinds[a[i].kind] = true
			if a[i].kind != b[i].kind || a[i].victim != b[i].victim || a[i].seed != b[i].seed {
				t.Fatalf("speed changes the plan: %+v, %+v", a[i], b[i])
			}
			if d := a[i].gap.Seconds()/speed - b[i].gap.Seconds(); d > 0.003 || d < -0.003 {
				t.Fatalf("gap %v becomes %v", a[i].gap, b[i].gap)
			}
			if a[i].kind == memoryLeaks && a[i] != alone[0] {
				t.Fatalf("alone the leak is %+v, among others %+v", alone[0], a[i])
			}
		}
		if len(a) != len(all) || len(seenKinds) != len(all) {
			t.Fatalf("planned %v", a)
		}
	})
	victims, first := map[string]bool{}, map[kind]bool{}
	for seed := range uint64(100) {
		p := draw(seed, all, 1)
		first[p[0].kind] = true
		victims[p[0].pick([]string{"web-1", "web-2", "web-3", "web-4"})] = true
	}
	if len(victims) != 4 || len(first) != len(all) {
		t.Errorf("over 100 seeds the victims are %v and the first faults %v", victims, first)
	}
	if v := (plan{victim: 1}).pick([]string{"a"}) + (plan{}).pick(nil); v != "a" {
		t.Errorf("picked %q", v)
	}
}

func TestForgotten(t *testing.T) {
	before := map[string]int{"a": 3, "b": 1, "c": 2}
	if n := forgotten(before, map[string]int{"a": 4, "b": 1, "c": 2, "d": 1}); n != 0 {
		t.Errorf("%d forgotten of what grew", n)
	}
	if n := forgotten(before, map[string]int{"a": 2, "c": 2}); n != 2 {
		t.Errorf("%d forgotten, want 2", n)
	}
}
