package engine

import (
	"fmt"
	"slices"

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
		if a.Verb.Disruptive() {
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

// oldest is when the oldest batch without an answer was appended, in nanoseconds since 1970; 0 if there is none.
func (l *Loop) oldest() int64 {
	if len(l.out) == 0 {
		return 0
	}
	return l.out[0].at.UnixNano()
}
