package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle"
)

// The colours of the story, as SGR parameters.
const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// story tells what happens: one line an event, and at a terminal a last line that shows the present. Safe for
// concurrent use.
type story struct {
	w      io.Writer
	began  time.Time
	live   bool // a terminal: the last line is rewritten
	colour bool
	every  time.Duration // between progress lines where it is no terminal

	mu       sync.Mutex
	progress bool      // a progress line stands at the cursor; guarded by mu
	said     time.Time // last progress line; guarded by mu
	// told is the last verdict that was told of each instance, so that a mere change of score is not; guarded by mu.
	told map[string]fettle.Verdict
}

func newStory(w io.Writer, began time.Time) *story {
	tty := isTerminal(w)
	return &story{
		w: w, began: began, live: tty, colour: tty && os.Getenv("NO_COLOR") == "", every: 20 * time.Second,
		told: map[string]fettle.Verdict{},
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}

func (s *story) paint(colour, text string) string {
	if !s.colour || colour == plain {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// say tells one line with its time and a word in front that says what sort of line it is.
func (s *story) say(colour, word, format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	t := time.Since(s.began)
	text := strings.ReplaceAll(fmt.Sprintf(format, a...), "\n", "\n                  ")
	s.write(fmt.Sprintf("%s  %s  %s\n", s.paint(dim, clock(t)), s.paint(colour, fmt.Sprintf("%-9s", word)), text))
}

func clock(t time.Duration) string {
	return fmt.Sprintf("%2d:%02d", int(t.Minutes()), int(t.Seconds())%60)
}

// print tells text without time, such as the table.
func (s *story) text(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.write(text)
}

// show rewrites the last line at a terminal; elsewhere it says the line now and then.
func (s *story) show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		if time.Since(s.said) >= s.every {
			s.said = time.Now()
			s.write(fmt.Sprintf("%s  %-9s  %s\n", clock(time.Since(s.began)), "...", text))
		}
		return
	}
	s.clear()
	if width := columns(s.w); len(text) > width-10 {
		text = text[:max(0, width-10)]
	}
	s.write(s.paint(dim, clock(time.Since(s.began))+"  "+text))
	s.progress = true
}

func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 20 {
			return int(ws.Col)
		}
	}
	return 80
}

// clear takes the progress line away. The caller holds mu.
func (s *story) clear() {
	if s.progress {
		s.write("\r\x1b[K")
		s.progress = false
	}
}

// write has nobody to tell of an error: the story is the only output there is.
func (s *story) write(text string) { _, _ = io.WriteString(s.w, text) }

// tell says an event in the daemon's own words, if a watching person would want to know it.
func (s *story) tell(e fettle.Event) {
	switch e := e.(type) {
	case *fettle.Judged:
		s.verdict(e)
	case *fettle.Unresponsive:
		s.say(yellow, "router", "%s", e)
	case *fettle.Responsive:
		s.say(green, "router", "%s", e)
	case *fettle.Exited:
		s.say(red, "exit", "%s", e)
	case *fettle.Exceeded:
		s.say(red, "limit", "%s", e)
	case *fettle.Opened:
		s.say(cyan, "action", "%s", e)
	case *fettle.Intended:
		if e.Action.Operation == 0 {
			s.say(cyan, "action", "%s", e)
		}
	case *fettle.Finished:
		s.finished(e)
	case *fettle.Closed:
		colour := green
		if e.Outcome != "done" {
			colour = red
		}
		s.say(colour, "action", "%s", e)
	case *fettle.TrialEnded:
		s.say(cyan, "trial", "%s", e)
	case *fettle.Declined:
		s.say(dim, "decision", "%s", e)
	case *fettle.Recovered:
		s.say(green, "recovered", "%s", e)
	case *fettle.Braked:
		s.say(dim, "brake", "%s", e)
	case *fettle.JournalState:
		s.say(red, "journal", "%s", e)
	}
}

// verdict tells a verdict when its level, cause or extent changed.
func (s *story) verdict(e *fettle.Judged) {
	key := string(e.Ref.ID)
	if e.Verdict.Pool {
		key = ""
	}
	s.mu.Lock()
	last, known := s.told[key]
	s.told[key] = e.Verdict
	s.mu.Unlock()
	v := &e.Verdict
	if known && last.Level == v.Level && last.Cause == v.Cause && last.Extent == v.Extent {
		return
	}
	switch {
	case v.Level == fettle.Learning:
	case v.Level >= fettle.High:
		s.say(red, "verdict", "%s", e)
	case v.Level >= fettle.Low:
		s.say(yellow, "verdict", "%s", e)
	case known && last.Level >= fettle.Low:
		s.say(green, "verdict", "%s", e)
	}
}

// finished tells the steps of an operation that change something for the instance.
func (s *story) finished(e *fettle.Finished) {
	if e.Err != "" {
		s.say(red, "step", "%s", e)
		return
	}
	switch e.Action.Verb {
	case fettle.Start, fettle.Specialize, fettle.Stop, fettle.Tune, fettle.SoftReset, fettle.FullReset, fettle.Quarantine,
		fettle.Rebaseline, fettle.Drain, fettle.Admit:
		s.say(plain, "step", "%s", e)
	case fettle.Weigh:
	}
}
