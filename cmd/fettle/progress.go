package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress is one line on a terminal that is written anew; elsewhere it is nothing.
type progress struct {
	w    io.Writer // nil: nothing is shown
	last time.Time
	on   bool
}

// often is how often the line changes.
const often = 200 * time.Millisecond

func newProgress(w io.Writer) *progress {
	if !terminal(w) {
		w = nil
	}
	return &progress{w: w}
}

// set shows a line, unless the last one was shown just now.
func (p *progress) set(format string, a ...any) {
	if p.w == nil || time.Since(p.last) < often {
		return
	}
	p.last, p.on = time.Now(), true
	fmt.Fprintf(p.w, "\r\x1b[K"+format, a...)
}

// share shows how much of something is done.
func (p *progress) share(done float64, format string, a ...any) {
	if p.w == nil || time.Since(p.last) < often {
		return
	}
	const cells = 24
	full := int(cells * min(max(done, 0), 1))
	p.set("[%s%s] %3.0f %%  %s", strings.Repeat("#", full), strings.Repeat(".", cells-full), 100*done, fmt.Sprintf(format, a...))
}

// clear takes the line away.
func (p *progress) clear() {
	if p.on {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.on = false
	}
}
