package demo

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/demo/load"
)

// Result is the outcome, in the form that -o json prints.
type Result struct {
	// Requests is how many the demo's clients sent.
	Requests int `json:"requests"`
	// LostPlanned counts the requests that were refused, reset, timed out or answered with a 5xx that the instance did
	// not send, but for those of LostFault.
	LostPlanned int `json:"lost_planned"`
	// LostFault counts those of them that were inside the process that had been made to hang, sent to it before it was
	// gone and not answered before the fault was planted.
	LostFault int `json:"lost_fault"`
	// Faults in the order in which they were planted.
	Faults []FaultResult `json:"faults"`
	// ActionsWithoutFault counts operations, and actions that belong to none, on instances while no fault was planted,
	// or on others than its victim; the first starts are none.
	ActionsWithoutFault int `json:"actions_without_fault"`
}

// FaultResult is how one planted fault went.
type FaultResult struct {
	Name      string  `json:"name"`
	PlantedAt float64 `json:"planted_at_s"` // since the demo began
	Victim    string  `json:"victim"`       // instance ID, or "pool"
	// DetectedAfter is the delay until the first verdict that says the right thing; nil if none did.
	DetectedAfter *float64 `json:"detected_after_s"`
	Verdict       string   `json:"verdict"` // in the daemon's words; of a missed fault what it said instead
	Cause         string   `json:"cause"`
	Actions       []string `json:"actions"` // on the victim or what replaced it, in order
	Cured         bool     `json:"cured"`
	Expected      string   `json:"expected"`
	AsExpected    bool     `json:"as_expected"`

	// Amiss says in words what was not as expected.
	Amiss []string `json:"-"`
	// Before, During and After are what users saw.
	Before, During, After load.Window `json:"-"`
}

// OK tells whether the demo kept its promise: no request lost to a planned action, no fault missed, no healthy
// instance disrupted. `fettle demo` exits with 1 otherwise.
func (r Result) OK() bool {
	return r.LostPlanned == 0 && r.ActionsWithoutFault == 0 &&
		!slices.ContainsFunc(r.Faults, func(f FaultResult) bool { return !f.AsExpected })
}

// trial is one fault as it was planted and what the demo itself saw of it.
type trial struct {
	plan
	victim  string        // instance ID; "pool" where it is everyone
	planted time.Duration // since the demo began
	hold    time.Duration // of the slow lock, at each request
	acute   time.Duration // until when the fault itself was there
	ended   time.Duration // when everything was steady again, or the demo gave up waiting
	cured   bool
	// amiss is what the demo itself saw go wrong, such as state that was not kept.
	amiss []string
	// routed is how long after planting the last request was sent into a hung instance.
	routed time.Duration
}

// atOnce is how soon a hung instance must be out of routing, in intervals of detection.
const atOnce = 10

// judge scores a trial by the events of the whole run.
func (t *trial) judge(events []seen, interval time.Duration) FaultResult {
	k := kinds[t.kind]
	r := FaultResult{
		Name: k.name, PlantedAt: seconds(t.planted), Victim: t.victim, Cured: t.cured, Expected: k.expected,
		Actions: []string{}, Amiss: slices.Clone(t.amiss),
	}
	during := between(events, t.planted, t.ended)
	if after, ok := t.detected(during, &r); ok {
		s := seconds(after)
		r.DetectedAfter = &s
	} else {
		r.Amiss = append(r.Amiss, "the fault was not recognised")
	}
	mine, _ := t.split(events)
	for _, a := range mine {
		r.Actions = append(r.Actions, a.text)
	}
	r.Amiss = append(r.Amiss, t.wrongActions(mine)...)
	if !t.cured {
		r.Amiss = append(r.Amiss, "not cured")
	}
	switch t.kind {
	case memoryLeaks:
		r.Amiss = append(r.Amiss, t.beyondLimit(during)...)
	case hangs:
		if t.routed > atOnce*interval {
			r.Amiss = append(r.Amiss, fmt.Sprintf("requests were still sent to it %.1f s later", t.routed.Seconds()))
		}
	case loadDoubles, mixChanges, lockSlows:
	}
	r.AsExpected = len(r.Amiss) == 0
	return r
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }

func between(events []seen, from, to time.Duration) []seen {
	var out []seen
	for _, s := range events {
		if s.at >= from && s.at < to {
			out = append(out, s)
		}
	}
	return out
}

// detected finds the first event that says the right thing, and puts its words into the result; where there is none,
// those of the highest verdict on the victim.
func (t *trial) detected(during []seen, r *FaultResult) (time.Duration, bool) {
	highest := fettle.Steady
	for _, s := range during {
		switch e := s.e.(type) {
		case *fettle.Judged:
			if t.recognised(e) {
				r.Verdict, r.Cause = e.Text, e.Verdict.Cause.String()
				return s.at - t.planted, true
			}
			if about(e, t.victim) && e.Verdict.Level > highest {
				highest = e.Verdict.Level
				r.Verdict, r.Cause = e.Text, e.Verdict.Cause.String()
			}
		case *fettle.Unresponsive:
			if t.kind == hangs && string(e.Ref.ID) == t.victim {
				r.Verdict, r.Cause = e.String(), fettle.InstanceChanged.String()
				return s.at - t.planted, true
			}
		}
	}
	return 0, false
}

// about tells whether a verdict is of the victim, "pool" being the pool.
func about(e *fettle.Judged, victim string) bool {
	if e.Verdict.Pool {
		return victim == "pool"
	}
	return string(e.Ref.ID) == victim
}

// recognised tells whether a verdict says what the fault is.
func (t *trial) recognised(e *fettle.Judged) bool {
	v := &e.Verdict
	if v.Level < fettle.Low {
		return false
	}
	switch t.kind {
	case loadDoubles:
		return v.Cause == fettle.WorkloadChanged && (v.Pool || v.Extent == fettle.WholePool)
	case mixChanges:
		return about(e, t.victim) && v.Cause == fettle.WorkloadChanged && v.Extent == fettle.ThisInstance
	case memoryLeaks:
		return about(e, t.victim) && v.Cause == fettle.InstanceChanged && names(e, "memory")
	case lockSlows:
		return about(e, t.victim) && v.Cause == fettle.InstanceChanged && names(e, "latency")
	case hangs: // an event of its own, which bypasses the score
	}
	return false
}

// names tells whether the verdict's evidence, or its forecast, names a dimension of that family.
func names(e *fettle.Judged, family string) bool {
	if e.Forecast != nil && strings.HasPrefix(e.Forecast.Dimension, family) {
		return true
	}
	return slices.ContainsFunc(e.Evidence, func(ev fettle.Evidence) bool { return strings.HasPrefix(ev.Dimension, family) })
}

// split gives the acts while the fault was there that were on its victim, and how many were on others.
func (t *trial) split(events []seen) (mine []act, others int) {
	kin := family(events, fettle.InstanceID(t.victim))
	for _, a := range acts(events, t.planted, t.ended) {
		switch {
		case t.kind == loadDoubles:
			mine = append(mine, a)
			if a.touches() {
				others++ // everyone's fault is nobody's
			}
		case kin[a.ref.ID]:
			mine = append(mine, a)
		default:
			others++
		}
	}
	return mine, others
}

// wrongActions says what of the acts on the victim is not what the fault asks for.
func (t *trial) wrongActions(mine []act) []string {
	has := func(kinds ...fettle.Operation) bool {
		return slices.ContainsFunc(mine, func(a act) bool { return a.op != 0 && slices.Contains(kinds, a.kind) })
	}
	anew := []fettle.Operation{fettle.FullResetting, fettle.Evict, fettle.Replace}
	var amiss []string
	wrong := func(is bool, text string) {
		if is {
			amiss = append(amiss, text)
		}
	}
	switch t.kind {
	case loadDoubles:
		wrong(slices.ContainsFunc(mine, act.touches), "an instance was touched")
	case mixChanges:
		wrong(has(fettle.SoftResetting) || has(anew...), "it was reset although only its workload changed")
		wrong(len(mine) == 0, "it was neither tuned nor re-specialised")
	case memoryLeaks:
		wrong(!has(fettle.SoftResetting), "it is young but was not soft reset")
		wrong(!has(anew...), "it was neither fully reset nor evicted")
		wrong(slices.ContainsFunc(mine, feedsMemory), "the leak was fed")
	case lockSlows:
		wrong(!has(fettle.SoftResetting), "it was not soft reset")
		wrong(has(anew...), "it lost its state although the soft reset would do")
	case hangs:
		wrong(!has(anew...), "it was neither fully reset nor evicted")
	}
	return amiss
}

// feedsMemory tells whether the act gives an instance more memory.
func feedsMemory(a act) bool {
	return a.kind == fettle.Retune && strings.Contains(a.text, "memory")
}

// beyondLimit says whether the leak reached the limit of memory before it was healed.
func (t *trial) beyondLimit(during []seen) []string {
	var amiss []string
	for _, s := range during {
		switch e := s.e.(type) {
		case *fettle.Exceeded:
			if string(e.Ref.ID) == t.victim && e.Limit == "memory" {
				amiss = append(amiss, "it reached its memory limit first")
			}
		case *fettle.Exited:
			if string(e.Ref.ID) == t.victim {
				amiss = append(amiss, "it ended by itself first: "+e.Exit.String())
			}
		}
	}
	return amiss
}

// withoutFault counts the acts from when all was in service that no fault asked for. That a setting which was turned
// during a fault goes back after it belongs to the fault.
func withoutFault(events []seen, ready time.Duration, trials []trial) int {
	n := 0
	for i := range trials {
		_, others := trials[i].split(events)
		n += others
	}
	for _, a := range acts(events, ready, math.MaxInt64) {
		asked := func(t trial) bool {
			return a.at >= t.planted && (a.at < t.ended || a.undoes() && family(events, fettle.InstanceID(t.victim))[a.ref.ID])
		}
		if !slices.ContainsFunc(trials, asked) {
			n++
		}
	}
	return n
}
