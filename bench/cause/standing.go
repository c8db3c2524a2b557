package main

import (
	"fmt"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// standing is an answer that a verdict of one subject, an instance or the pool, gave for long enough to be acted on.
type standing struct {
	answer
	id    ft.InstanceID // "" is the pool
	level ft.Level      // the highest at which it stood
	rows  int           // in how many frames it did, at any level from Low on
	first time.Time     // since when
	text  string        // the evidence when it was strongest
	score float32
}

// witness hears the verdicts of a stretch. The rule: an answer stands where a subject's verdict was at Low or above with the
// same cause and extent in as many frames one after the other as a planner waits for (detect.persist); it stands at the
// lowest level of these. The strongest is what the stretch is called: the highest level; where several reach it, what stood
// in most frames; then what stood first. The rule does not know what was done.
type witness struct {
	persist int
	now     map[ft.InstanceID]*trail
	stood   []*standing
}

// trail is the last verdicts of a subject.
type trail struct {
	answer
	levels []ft.Level // of the same answer, one after the other; at most persist
}

func newWitness(persist int) *witness {
	return &witness{persist: max(1, persist), now: map[ft.InstanceID]*trail{}}
}

// hear takes the verdict of a subject in one frame.
func (w *witness) hear(id ft.InstanceID, v ft.Verdict, f *ft.Frame) {
	t := w.now[id]
	if t == nil {
		t = &trail{}
		w.now[id] = t
	}
	a := answer{v.Cause, v.Extent}
	if v.Pool {
		a.extent = ft.WholePool
	}
	if v.Level < ft.Low || a != t.answer {
		t.levels = t.levels[:0]
	}
	if t.answer = a; v.Level < ft.Low {
		return
	}
	if t.levels = append(t.levels, v.Level); len(t.levels) < w.persist {
		return
	}
	t.levels = t.levels[len(t.levels)-w.persist:]
	level := ft.Critical
	for _, l := range t.levels {
		level = min(level, l)
	}
	s := w.of(id, a)
	if s.rows++; s.rows == 1 {
		s.first = f.At
	}
	if level > s.level || level == s.level && v.Score > s.score {
		s.level, s.score, s.text = level, v.Score, evidence(&v, f)
	}
}

// of is the standing of a subject and answer.
func (w *witness) of(id ft.InstanceID, a answer) *standing {
	for _, s := range w.stood {
		if s.id == id && s.answer == a {
			return s
		}
	}
	s := &standing{answer: a, id: id}
	w.stood = append(w.stood, s)
	return s
}

// strongest is the answer of the stretch, nil where none stood.
func (w *witness) strongest() *standing {
	var best *standing
	for _, s := range w.stood {
		switch {
		case best == nil, s.level > best.level:
			best = s
		case s.level == best.level && (s.rows > best.rows || s.rows == best.rows && s.first.Before(best.first)):
			best = s
		}
	}
	return best
}

// evidence is what the verdict rests on, in one line.
func evidence(v *ft.Verdict, f *ft.Frame) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %.3g (load %.2g, response %.2g, peers' load %.2g, peers' response %.2g, routes %.2g, shared %.2g)", v.Level, v.Score,
		v.SelfLoad, v.SelfResp, v.PeersLoad, v.PeersResp, v.Categories, v.Shared)
	for _, w := range v.Why {
		name := "?"
		switch {
		case w.N == 1 && int(w.Dim) < f.Schema.Len():
			name = f.Schema.At(int(w.Dim)).Name
		case w.N == 2 && int(w.Dim) < len(f.Labels):
			name = f.Labels[w.Dim]
		case w.N == 0:
			continue
		}
		fmt.Fprintf(&b, "; %s %+.1f: %.3g, usually %.3g", name, w.Z, w.Value, w.Usual)
	}
	return b.String()
}
