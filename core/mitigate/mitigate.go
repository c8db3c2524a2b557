// Package mitigate is the ladder: given what is known of one drifting instance, which step comes next. It is a pure
// function of its input; brakes, budgets and the order of steps over time are the planner's.
//
// Cause comes before band. A changed workload is adapted to, never reset away (unless the pool's policy says so); a
// changed instance climbs the ladder; where the cause is unknown, disruption needs the evidence of peers, or more
// time. A drift that the whole pool shares touches no single instance.
//
//	          workload changed               instance changed
//	Low       observe, or turn a knob        memory knob, where pressure explains it
//	Medium    observe, or turn a knob        CPU knob, where waiting explains it
//	High      reload hook, else a knob;      reload hook, else a knob
//	Critical  then what it does is normal    young: soft reset, watched, then full reset
//	                                         old: evict and replace if there is room, else full reset
package mitigate

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Near is within how many watch times of its limit a forecast makes High as urgent as Critical.
const Near = 4

// Patience is how many times longer drift of unknown cause must last where no peers could tell.
const Patience = 10

// Tried is the set of steps already taken against one drift.
type Tried uint16

// With adds a step.
func (t Tried) With(o ft.Operation) Tried { return t | 1<<o }

// Has tells whether a step was taken.
func (t Tried) Has(o ft.Operation) bool { return t>>o&1 != 0 }

// Case is all that the choice depends on.
type Case struct {
	Verdict  ft.Verdict
	Forecast *ft.Foreseen  // of an unbounded column, nil for none
	Leak     bool          // its memory grows
	Subject  string        // what drifts, in words: "memory_anon 210 MiB, usually 96 MiB"
	Now      time.Time     // for the forecast
	Age      time.Duration // of this generation
	Lasted   time.Duration // how long the level, or a higher one, and the cause have held
	Stable   time.Duration // since the verdict last changed
	Peers    int           // other instances in service that do the same work
	Room     int           // instances that could be started before Max or the memory budget is reached
	Reload   bool          // the work declares a reload hook
	Soft     bool          // the work declares a soft reset
	Knob     bool          // the tuner has a knob that fits
	NoKnob   string        // why it has none
	Harmed   string        // how the objective is violated now, empty if it is not
	Tried    Tried
}

// Answer is the next step. Do is [ft.NoOperation] where nothing is to be done: Wait says for how long if time alone may
// change that, else the answer holds for this verdict.
type Answer struct {
	Do         ft.Operation
	Rebaseline bool // instead of an operation: what it does now is normal
	Wait       time.Duration
	Rule       string // stable word for machines
	Text       string // one sentence for people
}

// Step chooses. The pool's defaults are filled.
func Step(p *ft.Pool, c *Case) Answer {
	persist := p.Detect.Persist.D()
	switch {
	case c.Verdict.Level < ft.Low:
		return Answer{Rule: "steady", Text: "it does not drift"}
	case c.Lasted < persist:
		return Answer{Wait: persist - c.Lasted, Rule: "persistence", Text: "drift must last " + p.Detect.Persist.String() + " before anything is done"}
	case c.Verdict.Extent == ft.WholePool:
		return Answer{Rule: "pool-wide", Text: "the pool drifts alike, so no single instance is touched: " + c.Subject}
	}
	switch c.Verdict.Cause {
	case ft.WorkloadChanged:
		if p.Heal.WorkloadDrift == ft.Adapt {
			return workload(p, c)
		}
		return instance(p, c)
	case ft.InstanceChanged:
		return instance(p, c)
	case ft.DependencyChanged:
		return Answer{Rule: "dependency", Text: "what it calls answers slower or fails; no reset of it would help: " + c.Subject}
	case ft.CauseUnknown:
		return unknown(p, c)
	}
	return Answer{Rule: "unknown-cause", Text: "its cause is not known"}
}

// Urgent tells whether the case calls for mitigation: Critical, or High with a limit about to be reached.
func Urgent(p *ft.Pool, c *Case) bool {
	return c.Verdict.Level == ft.Critical || c.Verdict.Level == ft.High && Foreseen(p, c.Forecast, c.Now)
}

// Foreseen tells whether a forecast's limit is reached within [Near] watch times.
func Foreseen(p *ft.Pool, f *ft.Foreseen, now time.Time) bool {
	return f != nil && !f.At.IsZero() && f.At.Sub(now) <= Near*p.Heal.Watch.D()
}

// workload adapts: it never resets, however high the score.
func workload(p *ft.Pool, c *Case) Answer {
	retune := c.Knob && !c.Tried.Has(ft.Retune)
	if c.Verdict.Level <= ft.Medium {
		settled := 2 * p.Heal.Watch.D() // a small change may still pass, and disturbs nobody meanwhile
		switch {
		case retune:
			return Answer{Do: ft.Retune, Rule: "workload-tune", Text: "its workload changed: " + c.Subject}
		case c.Harmed != "" || c.Stable >= settled:
			return adapted(c, settled)
		}
		return Answer{Wait: settled - c.Stable, Rule: "workload-changed", Text: "only its workload changed: " + c.Subject}
	}
	switch {
	case c.Reload && !c.Tried.Has(ft.Respecialize):
		return Answer{Do: ft.Respecialize, Rule: "workload-respecialize", Text: "its workload changed (" + c.Subject + "): loads what this work needs, no reset"}
	case retune:
		return Answer{Do: ft.Retune, Rule: "workload-tune", Text: "its workload changed: " + c.Subject}
	case c.Harmed == "" && c.Stable < p.Heal.Watch.D():
		return Answer{Wait: p.Heal.Watch.D() - c.Stable, Rule: "workload-changed", Text: "only its workload changed: " + c.Subject}
	}
	return adapted(c, p.Heal.Watch.D())
}

// adapted calls a workload normal that was stable for so long, unless it harms.
func adapted(c *Case, stable time.Duration) Answer {
	if c.Harmed != "" {
		return Answer{Rule: "workload-harmful", Text: "its workload changed (" + c.Subject + ") but it is not called normal: " + c.Harmed}
	}
	return Answer{Rebaseline: true, Rule: "adapted", Text: fmt.Sprintf("its new workload is stable for %s and harms nothing: this is normal now", ft.Duration(stable))}
}

// instance climbs the ladder.
func instance(p *ft.Pool, c *Case) Answer {
	if Urgent(p, c) {
		return heal(p, c)
	}
	retune := c.Knob && !c.Tried.Has(ft.Retune)
	switch {
	case c.Verdict.Level == ft.High && c.Reload && !c.Tried.Has(ft.Respecialize):
		return Answer{Do: ft.Respecialize, Rule: "light-respecialize", Text: c.Subject + ": reloads its libraries or data, no drain"}
	case retune:
		return Answer{Do: ft.Retune, Rule: "tune", Text: c.Subject}
	case c.Tried.Has(ft.Retune) || c.Tried.Has(ft.Respecialize):
		return Answer{Rule: "light-steps-done", Text: "the light steps are taken; resets wait for critical: " + c.Subject}
	case c.Verdict.Level == ft.High:
		return Answer{Rule: "no-light-step", Text: "no reload hook is declared and no knob fits (" + c.NoKnob + "); resets wait for critical: " + c.Subject}
	}
	return Answer{Rule: "no-knob", Text: "no knob fits (" + c.NoKnob + "): " + c.Subject}
}

// unknown allows disruption only on the evidence of peers, or with patience where there are none.
func unknown(p *ft.Pool, c *Case) Answer {
	if !Urgent(p, c) || c.Verdict.Channel == ft.Peers {
		return instance(p, c)
	}
	if c.Peers > 0 {
		return Answer{Rule: "unknown-cause", Text: "its cause is not known and its peers are no evidence against it: " + c.Subject}
	}
	if need := Patience * p.Detect.Persist.D(); c.Lasted < need {
		return Answer{Wait: need - c.Lasted, Rule: "unknown-cause", Text: fmt.Sprintf("its cause is not known and it has no peers: this must last %s: %s", ft.Duration(need), c.Subject)}
	}
	return heal(p, c)
}

// heal is the last rung: the soft, full or evict choice by age and room.
func heal(p *ft.Pool, c *Case) Answer {
	kind := "drift"
	if c.Leak || c.Forecast != nil {
		kind = "leak"
	}
	room := c.Room > p.Heal.CapacityAbove
	young := c.Age < p.Heal.Young.D()
	age := ft.Duration(c.Age.Round(time.Second)).String()
	evict := Answer{Do: ft.Evict, Rule: kind + "-evict"}
	full := Answer{Do: ft.FullResetting, Rule: kind + "-full-reset"}
	say := func(a Answer, format string, v ...any) Answer {
		a.Text = c.Subject + "; " + fmt.Sprintf(format, v...)
		return a
	}
	tried := c.Tried
	switch {
	case young && c.Soft && !tried.Has(ft.SoftResetting):
		return say(Answer{Do: ft.SoftResetting, Rule: kind + "-soft-reset"}, "it is young (%s): soft reset first", age)
	case young && !tried.Has(ft.FullResetting) && c.Soft:
		return say(full, "the soft reset did not cure it: full reset")
	case young && !tried.Has(ft.FullResetting):
		return say(full, "it is young (%s) but declares no soft reset: full reset", age)
	case !young && room && !tried.Has(ft.Evict):
		return say(evict, "it is old (%s) and there is room for %d more: evict and replace", age, c.Room)
	case !tried.Has(ft.FullResetting):
		return say(full, "it is old (%s) and there is no room to replace it: full reset", age)
	case room && !tried.Has(ft.Evict):
		return say(evict, "the full reset did not cure it: evict and replace")
	}
	return Answer{Rule: "exhausted", Text: "every step was taken in vain: " + c.Subject}
}
