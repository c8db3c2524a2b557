package engine

import (
	"fmt"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// record appends what was folded in this step as one batch, and leaves its disruptive actions with it until it is
// durable.
func (l *Loop) record() {
	if len(l.events) == 0 {
		return
	}
	l.batch++
	b := pending{batch: l.batch, at: l.now}
	rest := l.todo[:0]
	for _, a := range l.todo {
		if disrupts(&a) {
			b.acts = append(b.acts, a)
		} else {
			rest = append(rest, a)
		}
	}
	l.todo = rest
	if l.journal != nil {
		l.journal.Append(b.batch, l.events)
	}
	l.out = append(l.out, b)
	clear(l.events)
	l.events = l.events[:0]
	if l.journal == nil {
		l.settle(Written{Batch: b.batch})
	}
}

// disrupts tells whether an action must wait until its intent is durable. To bring back what has died already
// disrupts nobody: it is a start.
func disrupts(a *ft.Action) bool { return a.Verb.Disruptive() && a.Kind != ft.Replace }

// settle folds the outcome of a batch: its disruptive actions are validated once more and go on, or are skipped.
func (l *Loop) settle(w Written) {
	i := slices.IndexFunc(l.out, func(p pending) bool { return p.batch == w.Batch })
	if i < 0 {
		return
	}
	if w.Err != nil && !w.Lost {
		l.out[i].err = w.Err.Error()
		return
	}
	p := l.out[i]
	l.out = slices.Delete(l.out, i, i+1)
	if w.Lost {
		l.lost = "an entry is lost"
		if w.Err != nil {
			l.lost = w.Err.Error()
		}
		for _, a := range p.acts {
			l.skip(a, "its intent could not be journaled: "+l.lost)
		}
		return
	}
	l.lost = ""
	l.run.written(w)
	for _, a := range p.acts {
		if err := l.state.Valid(&a, l.now); err != nil {
			l.skip(a, err.Error())
			continue
		}
		if !a.Deadline.IsZero() {
			// Time spent waiting for the disk is not taken from the requests in flight.
			a.Deadline = a.Deadline.Add(l.now.Sub(p.at))
		}
		l.ready = append(l.ready, a)
	}
}

func (l *Loop) skip(a ft.Action, why string) {
	_ = l.fold(&ft.Finished{Stamp: l.stamp(), Action: a, Skipped: true, Err: why})
}

// watchJournal says when the journal begins to fail or to hang, and when it works again.
func (l *Loop) watchJournal() {
	bad := l.lost
	for i := range l.out {
		switch silent := l.now.Sub(l.out[i].at); {
		case l.out[i].err != "":
			bad = l.out[i].err
		case bad == "" && silent >= journalPatience:
			bad = fmt.Sprintf("no answer for %s", ft.Duration(silent.Round(1e9)))
		}
	}
	if (bad == "") == (l.bad == "") {
		return
	}
	l.bad = bad
	_ = l.fold(&ft.JournalState{Stamp: l.stamp(), Err: bad})
}

// patience is when the journal will be said to hang, if it has not answered by then; zero if it need not be asked.
func (l *Loop) patience() (at time.Time) {
	if len(l.out) > 0 && l.out[0].at.Add(journalPatience).After(l.now) {
		at = l.out[0].at.Add(journalPatience)
	}
	return at
}

// oldest is when the oldest batch without an answer was appended, in nanoseconds since 1970; 0 if there is none.
func (l *Loop) oldest() int64 {
	if len(l.out) == 0 {
		return 0
	}
	return l.out[0].at.UnixNano()
}
