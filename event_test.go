package fettle

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// samples is one event of each kind with every field set that a journal keeps.
func samples() []Event {
	s := Stamp{At: at}
	ref := Ref{ID: "web-3", Generation: 2}
	work := Work{Specialization: "tenant", Key: "k/1"}
	set := Setting{Knob: "memory", Value: 1 << 28}
	reason := Reason{Rule: "leak-soft-reset", Level: Critical, Cause: InstanceChanged, Text: "memory grows"}
	action := Action{
		ID: 7, Operation: 3, Kind: SoftResetting, Verb: Drain, Ref: ref, Work: work, Setting: set, Weight: 0.5,
		Deadline: at.Add(time.Minute), Reason: reason,
	}
	knobs := []Knob{{
		Name: "cpu", Unit: "share", Min: 1, Max: 400, Step: 1.5, Value: 100, Additive: true, Relieves: []string{DimCPU},
		Rung: Medium, Disruption: 1, Draws: CPU,
	}}
	exit := Exit{Code: 3, Signal: 9, Known: true, OOM: true, LastOutput: "bye\n", At: at}
	in := Instance{
		Ref: ref, Work: work, Digest: "sha256:1", Born: at, Endpoint: Endpoint{"unix", "/run/a"}, Concurrency: 4,
		Scope:    Scope{PID: 12, StartTime: 99, BootID: "b", CgroupV2: "/c", CgroupV1: map[string]string{"memory": "/m"}, NetNS: "n"},
		Settings: []Setting{set}, Exit: &exit,
	}
	verdict := Verdict{
		Level: High, Cause: WorkloadChanged, Extent: WholePool, Channel: Peers, Score: 4.25, SelfLoad: 1, SelfResp: 2, PeersLoad: 3,
		PeersResp: 4, Categories: 5, Shared: 0.5, Since: InstantOf(at), Progress: 1,
	}
	figures := Figures{Rate: 1, Errors: 0.5, P50: 0.01, P99: 0.1, CPU: 2, Memory: 3}
	pool := Pool{Name: "web", Mode: HealAutomatic, Image: Image{Command: []string{"server"}}, Limits: Limits{Memory: 512 << 20}}
	pool.Defaults()
	return []Event{
		&Began{s, "1.2", 5},
		&Configured{s, pool},
		&Found{s, in, knobs},
		&Missing{s, ref, true},
		&Finished{s, action, &in, knobs, &set, "failed", "out", true, true, Duration(time.Second)},
		&Exited{s, ref, exit},
		&Unresponsive{s, ref, "liveness", Duration(time.Second), "refused"},
		&Responsive{s, ref},
		&Exceeded{s, ref, "memory", 2, 1},
		&Judged{s, ref, verdict, []Evidence{{DimRSS, "B", 4, 2, 1}}, &Foreseen{DimRSS, at, 1, 2}, "web-3 drifts"},
		&Health{s, Demand{1, 2, 3, 4}, figures, []MemberFigures{{ref, figures}}},
		&Commanded{s, Command{"c1", "adjust", "web-3", 4, &set, true, "cli root"}},
		&JournalState{s, "disk full"},
		&Intended{s, action},
		&Opened{s, 3, Evict, ref, work, reason},
		&Closed{s, 3, Evict, ref, "done", "replaced by web-5"},
		&TrialEnded{s, ref, set, set, true, -0.2, 0.01, "kept"},
		&Declined{s, ref, reason},
		&Recovered{s, ref, "steady again"},
		&Braked{s, "breaker", true, "3 of 4 unhealthy"},
	}
}

func TestEveryKindComesBackFromItsJSON(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range samples() {
		kind := EventKind(e)
		if seen[kind] {
			t.Fatalf("two kinds are called %q", kind)
		}
		seen[kind] = true
		v := reflect.ValueOf(e).Elem()
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Fatalf("%s: field %s is not set here, so it is not tested", kind, v.Type().Field(i).Name)
			}
		}
		b, err := MarshalEvent(e)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		back, err := UnmarshalEvent(kind, b)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if d := cmp.Diff(e, back); d != "" {
			t.Errorf("%s comes back differently:\n%s", kind, d)
		}
		if s := e.String(); s == "" || strings.Contains(s, "%!") {
			t.Errorf("%s in words: %q", kind, s)
		}
		if !e.When().Equal(at) {
			t.Errorf("%s: when is %s", kind, e.When())
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d kinds are tested, the set has 20", len(seen))
	}
}

func TestUnmarshalEventRefuses(t *testing.T) {
	for _, c := range []struct{ kind, json string }{
		{"from the future", `{}`},
		{"", `{}`},
		{"exited", `{`},
		{"exited", `[]`},
		{"judged", `{"verdict":{"level":"awful"}}`},
		{"finished", `{"took":"long"}`},
		{"began", `{"at":"yesterday"}`},
	} {
		if e, err := UnmarshalEvent(c.kind, []byte(c.json)); err == nil {
			t.Errorf("%s %s was taken for %v", c.kind, c.json, e)
		}
	}
	if _, err := UnmarshalEvent("nonsense", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("an unknown kind: %v, want %v", err, ErrInvalid)
	}
}

func TestEventRefFindsTheInstance(t *testing.T) {
	about := map[string]bool{"began": false, "configured": false, "health": false, "journal": false, "braked": false}
	for _, e := range samples() {
		want := InstanceID("web-3")
		if of, ok := about[EventKind(e)]; ok && !of {
			want = ""
		}
		if got := EventRef(e).ID; got != want {
			t.Errorf("%s is about %q, want %q", EventKind(e), got, want)
		}
	}
}

// FuzzUnmarshalEvent holds that no bytes of a journal make the decoder fail other than by an error, and that what it
// takes is stable: encoded again and decoded again it is the same.
func FuzzUnmarshalEvent(f *testing.F) {
	for _, e := range samples() {
		b, err := MarshalEvent(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(EventKind(e), b)
	}
	f.Add("judged", []byte(`{"at":"2026-03-01T12:00:00Z","verdict":{"since":"9999-12-31T23:59:59Z"}}`))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		e, err := UnmarshalEvent(kind, b)
		if err != nil {
			return
		}
		_ = e.String()
		_ = EventRef(e)
		once, err := MarshalEvent(e)
		if err != nil {
			return // a year beyond 9999, an enum beyond its names
		}
		again, err := UnmarshalEvent(kind, once)
		if err != nil {
			t.Fatalf("its own JSON is refused: %v\n%s", err, once)
		}
		twice, err := MarshalEvent(again)
		if err != nil {
			t.Fatalf("decoded twice: %v", err)
		}
		if string(once) != string(twice) {
			t.Fatalf("not stable:\n%s\n%s", once, twice)
		}
		if !json.Valid(once) {
			t.Fatalf("no JSON: %s", once)
		}
	})
}

// TestExceededSpeaksOfSizes: what is exceeded is told in the units in which limits are written.
func TestExceededSpeaksOfSizes(t *testing.T) {
	ref := Ref{ID: "web-3", Generation: 2}
	for _, c := range []struct {
		e    Exceeded
		want string
	}{
		{Exceeded{Ref: ref, Limit: "memory", Value: 641728512, Bound: 512 << 20}, "web-3/2 exceeds its memory limit: 612 MiB, at most 512 MiB"},
		{Exceeded{Ref: ref, Limit: "memory", Value: 1.2345e10, Bound: 10 << 30}, "web-3/2 exceeds its memory limit: 11.5 GiB, at most 10 GiB"},
		{Exceeded{Ref: ref, Limit: "memory", Value: 1023 << 20, Bound: 700}, "web-3/2 exceeds its memory limit: 1 GiB, at most 700 B"},
		{Exceeded{Ref: ref, Limit: "silence", Value: 32.04, Bound: 30}, "web-3/2 exceeds its silence limit: 32s, at most 30s"},
	} {
		if got := c.e.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
