package demo

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fettle-dev/fettle"
)

// TestStoryWhenPiped: plain lines, verdicts once and not at each change of score, progress now and then.
func TestStoryWhenPiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		s := newStory(&b, time.Now())
		tell := func(level fettle.Level, text string) {
			s.tell(&fettle.Judged{Ref: fettle.Ref{ID: "web-1"}, Verdict: fettle.Verdict{Level: level}, Text: text})
		}
		tell(fettle.Learning, "web-1 learns")
		tell(fettle.Steady, "web-1 is steady")
		for range 45 {
			time.Sleep(time.Second)
			s.show("learning")
		}
		tell(fettle.Low, "web-1 drifts (low)")
		tell(fettle.Low, "web-1 drifts (low) a little more")
		tell(fettle.High, "web-1 drifts (high)")
		s.tell(opened(1, fettle.SoftResetting, "web-1"))
		s.tell(&fettle.Finished{Action: fettle.Action{Verb: fettle.SoftReset, Ref: fettle.Ref{ID: "web-1"}}, Took: fettle.Duration(time.Second)})
		s.tell(&fettle.Finished{Action: fettle.Action{Verb: fettle.FullReset, Ref: fettle.Ref{ID: "web-1"}}, Err: "no port"})
		s.tell(&fettle.Health{})
		tell(fettle.Steady, "web-1 is steady again")
		got := regexp.MustCompile(` +`).ReplaceAllString(b.String(), " ")
		want := ` 0:01 ... learning
 0:21 ... learning
 0:41 ... learning
 0:45 verdict web-1 drifts (low)
 0:45 verdict web-1 drifts (high)
 0:45 action soft-reset web-1: 
 0:45 step soft-reset web-1 done in 1s
 0:45 step full-reset web-1 failed: no port
 0:45 verdict web-1 is steady again
`
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// TestStoryAtATerminal: the progress line is rewritten in place and gives way to what happens.
func TestStoryAtATerminal(t *testing.T) {
	var b strings.Builder
	s := newStory(&b, time.Now())
	s.live, s.colour = true, true
	s.show(strings.Repeat("learning ", 30))
	s.show("learning 50 %")
	s.say(green, "ready", "now")
	out := b.String()
	if strings.Count(out, "\r\x1b[K") != 2 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "\x1b[32mready") {
		t.Errorf("%q", out)
	}
	if first, _, _ := strings.Cut(out, "\r"); len(first) > 100 {
		t.Errorf("a progress line of %d bytes wraps", len(first))
	}
}

// TestEverythingUnusualIsPrinted: at normal speed only what such an application needs differs; faster, each shortened
// span is listed.
func TestEverythingUnusualIsPrinted(t *testing.T) {
	for _, c := range []struct {
		speed float64
		want  string
	}{
		{1, "size.min listen image image.hooks route.key probes limits.memory"},
		{4, "size.min listen image image.hooks route.key probes limits.memory detect.interval detect.learn detect.persist heal.watch heal.holdOff route.slowStart limits.silence probes.readiness.every probes.readiness.timeout probes.liveness.every probes.liveness.timeout"},
	} {
		d := &demo{Options: Options{Speed: c.speed, Exe: "fettle"}}
		p := d.pool("/image", "/socket")
		if errs := p.Validate(); len(errs) > 0 {
			t.Fatalf("speed %g: the pool is not valid: %v", c.speed, errs)
		}
		var names []string
		for _, line := range deviations(p) {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
		if d := cmp.Diff(c.want, strings.Join(names, " ")); d != "" {
			t.Errorf("speed %g: %s", c.speed, d)
		}
		if got := p.Detect.Interval.D() * time.Duration(c.speed); got != time.Second {
			t.Errorf("speed %g: interval %v", c.speed, p.Detect.Interval)
		}
	}
}
