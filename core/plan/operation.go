package plan

import (
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Operations are step tables over verbs. An operation is carried to its end, also over a restart of the brain: all
// that it needs is in the state. A step that fails is tried again with growing pauses; when its tries are used up,
// the operation goes to its last resort, one verb, and is closed as failed. Steps marked * act on the replacement.
//
//	Grow           Start, Admit                     else Stop
//	Shrink         Drain, Stop
//	SoftResetting  Drain, SoftReset, Admit          else the instance is fully reset
//	FullResetting  Drain, FullReset, Admit          else Quarantine; size starts another
//	Evict          Start*, Admit*, Drain, Stop      else Stop*
//	Replace        FullReset, Admit                 else Stop; size starts another
//	Respecialize   Specialize
//	Retune         Tune
type step struct {
	verb  ft.Verb
	other bool // acts on the replacement
}

func steps(o ft.Operation) []step {
	switch o {
	case ft.Grow:
		return []step{{verb: ft.Start}, {verb: ft.Admit}}
	case ft.Shrink:
		return []step{{verb: ft.Drain}, {verb: ft.Stop}}
	case ft.SoftResetting:
		return []step{{verb: ft.Drain}, {verb: ft.SoftReset}, {verb: ft.Admit}}
	case ft.FullResetting:
		return []step{{verb: ft.Drain}, {verb: ft.FullReset}, {verb: ft.Admit}}
	case ft.Evict:
		return []step{{ft.Start, true}, {ft.Admit, true}, {verb: ft.Drain}, {verb: ft.Stop}}
	case ft.Replace:
		return []step{{verb: ft.FullReset}, {verb: ft.Admit}}
	case ft.Respecialize:
		return []step{{verb: ft.Specialize}}
	case ft.Retune:
		return []step{{verb: ft.Tune}}
	case ft.NoOperation:
	}
	return nil
}

// resort is the verb that ends an operation whose step failed for good; ok is false where there is nothing to clear away.
func (o *operation) resort() (s step, ok bool) {
	switch o.Kind {
	case ft.Grow, ft.Replace:
		return step{verb: ft.Stop}, true
	case ft.FullResetting:
		return step{verb: ft.Quarantine}, true
	case ft.Evict:
		return step{ft.Stop, true}, o.Other.ID != "" && o.Step < 2
	case ft.Shrink, ft.SoftResetting, ft.Respecialize, ft.Retune, ft.NoOperation:
	}
	return step{}, false
}

// tries is how often a step is tried before the operation fails.
func tries(v ft.Verb) int {
	switch v {
	case ft.Start, ft.FullReset:
		return 4
	case ft.SoftReset, ft.Specialize, ft.Tune:
		return 2
	case ft.Admit, ft.Drain, ft.Stop, ft.Quarantine, ft.Rebaseline, ft.Weigh:
		return 5
	}
	return 1
}

// operation is one under way.
type operation struct {
	ID     ft.OperationID `json:"id"`
	Kind   ft.Operation   `json:"kind"`
	Ref    ft.Ref         `json:"ref"`            // as it was opened
	Other  ft.Ref         `json:"other,omitzero"` // the replacement, once named
	Work   ft.Work        `json:"work,omitzero"`
	Reason ft.Reason      `json:"reason"`
	Since  time.Time      `json:"since"`
	Step   int            `json:"step"`
	Goal   ft.Setting     `json:"goal,omitzero"` // of Retune
	Was    *ft.Setting    `json:"was,omitempty"` // of Retune, once done

	Prior   *story     `json:"prior,omitempty"` // the member's, before this operation
	Pending *ft.Action `json:"pending,omitempty"`
	From    ft.Phase   `json:"from,omitempty"`    // phase before the pending action
	Begun   bool       `json:"begun,omitempty"`   // something disruptive is intended
	Before  bool       `json:"before,omitempty"`  // Begun before the pending action
	Failing bool       `json:"failing,omitempty"` // on its last resort
	Cleared bool       `json:"cleared,omitempty"` // the last resort succeeded
	Fails   int        `json:"fails,omitempty"`   // of the present step
	Skips   int        `json:"skips,omitempty"`
	// Withdrawn is why it is given up: it cannot be carried out here.
	Withdrawn string    `json:"withdrawn,omitempty"`
	RetryAt   time.Time `json:"retryAt,omitzero"`
	Err       string    `json:"err,omitempty"`
	Score     float32   `json:"score,omitempty"` // of the instance at the opening
}

// current is the step to take next; ok is false at the end.
func (o *operation) current() (s step, ok bool) {
	if o.Failing {
		if s, ok = o.resort(); !ok || o.Cleared || o.Fails >= tries(s.verb) {
			return step{}, false
		}
		return s, true
	}
	all := steps(o.Kind)
	if o.Step >= len(all) {
		return step{}, false
	}
	return all[o.Step], true
}

// planned tells whether it takes an instance out of service by choice; faults and growth are none.
func (o *operation) planned() bool { return planned(o.Kind) && !hard(o.Reason.Rule) }

func planned(k ft.Operation) bool {
	return k == ft.SoftResetting || k == ft.FullResetting || k == ft.Evict
}

// The rules of operations that answer hard faults, and of manual ones.
const (
	ruleCrash        = "crash"
	ruleUnresponsive = "unresponsive"
	ruleEscalate     = "escalate"
	ruleLimit        = "limit-" // with the name of the limit
	ruleManual       = "manual"
	ruleForced       = "forced"
	ruleRefused      = "refused"
	ruleSurge        = "surge"
	ruleRevert       = "revert"
	ruleGiveBack     = "give-back"
)

// hard tells whether a rule answers a fault that has already taken the instance out of service.
func hard(rule string) bool {
	return rule == ruleCrash || rule == ruleUnresponsive || rule == ruleEscalate
}
