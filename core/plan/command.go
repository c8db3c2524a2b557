package plan

import (
	"fmt"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/specialize"
	"github.com/fettle-dev/fettle/core/tune"
)

// commanded takes a command in: what is a state changes at once, what is an action becomes a wish that waits for its
// turn, and what cannot be is refused by the next Next.
func (s *State) commanded(e *ft.Commanded) {
	c := &e.Command
	refuse := func(format string, a ...any) {
		s.d.Refused = append(s.d.Refused, refusal{c.Target, fmt.Sprintf("%s asked by %s: ", c.Kind, c.By) + fmt.Sprintf(format, a...)})
	}
	m := s.member(c.Target)
	if c.Target != "" && m == nil {
		refuse("there is no instance %s", c.Target)
		return
	}
	if s.watched() && !slices.Contains([]string{"pause", "resume", "accept", "forget"}, c.Kind) {
		refuse("it is only watched, nothing of it is changed")
		return
	}
	switch c.Kind {
	case "scale":
		if c.Size < 0 || c.Size > s.d.Pool.Size.Max {
			refuse("%d is not between 0 and size.max, %d", c.Size, s.d.Pool.Size.Max)
			return
		}
		s.d.Desired = c.Size
	case "pause":
		s.d.Paused, s.d.By = true, c.By
	case "resume":
		s.d.Paused, s.d.By = false, ""
	case "stop":
		s.d.Stop, s.d.Desired = true, s.d.Pool.Size.Min // what it was scaled to ends with it
		s.touchAll()
	case "restart", "reset-full", "reset-soft", "evict":
		s.wish(c, m, refuse)
	case "adjust":
		s.adjust(c, m, refuse)
	case "accept", "forget":
		if m == nil {
			s.d.Rebase, s.d.Rebased = c.Kind, c.By
			return
		}
		m.Rebase, m.RebaseBy = c.Kind, c.By
		s.touch(m)
	default:
		refuse("no such command")
	}
}

func rebaseText(kind, by string) string {
	if kind == "forget" {
		return "all that was learnt of it is forgotten, asked by " + by
	}
	return "what it does now is normal, said " + by
}

// wish notes a manual action for the target, or for all.
func (s *State) wish(c *ft.Command, m *member, refuse func(string, ...any)) {
	w := wish{Force: c.Force, By: c.By, Asked: c.Kind}
	switch c.Kind {
	case "reset-soft":
		w.Kind = ft.SoftResetting
	case "evict":
		w.Kind = ft.Evict
		if m == nil {
			refuse("say which instance")
			return
		}
	default:
		w.Kind = ft.FullResetting
	}
	all := s.d.Members
	if m != nil {
		all = []*member{m}
	}
	for _, m := range all {
		switch {
		case m.Phase == ft.Quarantined && c.Target == "":
		case !m.Alive && c.Target == "":
		case !m.Alive:
			refuse("%s does not run", m.In.ID)
		case w.Kind == ft.SoftResetting && !specialize.Offered(&s.d.Pool, m.In.Work).SoftReset:
			refuse("%s declares no soft reset (image.hooks.softReset)", m.In.ID)
			return
		default:
			own := w
			m.Wish = &own
			s.touch(m)
		}
	}
}

// adjust notes a setting that a person wants.
func (s *State) adjust(c *ft.Command, m *member, refuse func(string, ...any)) {
	switch {
	case m == nil:
		refuse("say which instance")
		return
	case c.Set == nil:
		refuse("say which knob and value")
		return
	}
	i := slices.IndexFunc(m.Knobs, func(k ft.Knob) bool { return k.Name == c.Set.Knob })
	switch {
	case !m.Alive:
		refuse("%s does not run", m.In.ID)
	case i < 0:
		refuse("%s has no knob %q", m.In.ID, c.Set.Knob)
	case !(c.Set.Value >= m.Knobs[i].Min && c.Set.Value <= m.Knobs[i].Max):
		refuse("%s = %g is not between %g and %g", c.Set.Knob, c.Set.Value, m.Knobs[i].Min, m.Knobs[i].Max)
	default:
		set := *c.Set
		m.Wish = &wish{Kind: ft.Retune, Set: &set, Force: c.Force, By: c.By, Asked: c.Kind}
		s.touch(m)
	}
}

// answer refuses what cannot be, and rebaselines the pool where that was asked.
func (s *State) answer(t *tally) {
	for _, r := range s.d.Refused {
		t.say(&ft.Declined{Stamp: t.stamp(), Ref: ft.Ref{ID: r.Target}, Reason: ft.Reason{Rule: ruleRefused, Text: r.Text}})
	}
	if s.d.Rebase != "" {
		t.intend(ft.Action{Verb: ft.Rebaseline, Deadline: t.now.Add(admitTime), Reason: ft.Reason{Rule: s.d.Rebase, Text: rebaseText(s.d.Rebase, s.d.Rebased)}})
	}
}

// grant carries a wish through the brakes, or refuses it. Force passes over them; a restart of the pool still goes from one to
// the next.
func (s *State) grant(t *tally, m *member) {
	w := m.Wish
	refuse := func(text string) {
		t.say(&ft.Declined{Stamp: t.stamp(), Ref: m.In.Ref, Reason: ft.Reason{Rule: ruleRefused, Text: fmt.Sprintf("%s asked by %s: %s", w.Asked, w.By, text)}})
	}
	r := ft.Reason{Rule: ruleManual, Level: m.Verdict.Level, Cause: m.Verdict.Cause, Text: fmt.Sprintf("%s asked by %s", w.Asked, w.By)}
	rolling := w.Asked == "restart"
	if w.Force && !rolling {
		r.Rule = ruleForced
	}
	if b, held := s.policyBrake(t.now); held && (!w.Force || s.d.Journal != "") {
		refuse(b.text)
		return
	}
	if w.Set != nil {
		s.grantSetting(t, m, r, refuse)
		return
	}
	b, held := brake{}, false
	switch {
	case !w.Force:
		b, held = s.budgetBrake(t, w.Kind, true)
	case rolling:
		b, held = s.turnBrake(t)
	}
	if held {
		if !b.passing {
			refuse(b.text)
		}
		return
	}
	if w.Kind == ft.Evict && s.room(t) < 1 {
		refuse(fmt.Sprintf("there is no room for a replacement: %d run, size.max is %d", t.running, s.d.Pool.Size.Max))
		return
	}
	s.disrupt(t, m, w.Kind, r)
}

func (s *State) grantSetting(t *tally, m *member, r ft.Reason, refuse func(string)) {
	set := *m.Wish.Set
	i := slices.IndexFunc(m.Knobs, func(k ft.Knob) bool { return k.Name == set.Knob })
	if i < 0 {
		refuse("it has no such knob any more")
		return
	}
	b, more := s.budgetOf(t), set.Value-tune.Value(m.Knobs[i], m.In.Settings)
	over := m.Knobs[i].Draws == ft.Memory && more > max(0, b.room.Memory) || m.Knobs[i].Draws == ft.CPU && more > max(0, b.room.CPU)
	if over && !m.Wish.Force {
		refuse(fmt.Sprintf("%s = %g does not fit the pool's %s budget", set.Knob, set.Value, m.Knobs[i].Draws))
		return
	}
	if m.Trial != nil {
		t.say(&ft.TrialEnded{Stamp: t.stamp(), Ref: m.In.Ref, Setting: m.Trial.Setting, Was: m.Trial.Was, P: 1, Text: "reverted: a person adjusts it"})
		return
	}
	b.take(m.Knobs[i].Draws, max(0, more))
	id := t.begin(m, ft.Retune, r)
	t.intend(tuneAction(m, id, set, r, t.now))
}
