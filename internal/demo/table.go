package demo

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fettle-dev/fettle/internal/demo/load"
)

// table is the end of the story: each fault in a line, what users saw, and the sums.
func table(r Result) string {
	var b strings.Builder
	if len(r.Faults) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "\nFAULT\tVICTIM\tDETECTED\tVERDICT\tACTIONS\tCURED\tAS EXPECTED")
		for _, f := range r.Faults {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, f.Victim, delay(f.DetectedAfter), orNone(f.Cause),
				orNone(strings.Join(f.Actions, ", ")), yes(f.Cured), yes(f.AsExpected))
		}
		_ = w.Flush() // into a strings.Builder
		w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "\np50/p99 ms\tbefore\tduring\tafter\t")
		for _, f := range r.Faults {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", f.Name, latency(f.Before), latency(f.During), latency(f.After))
		}
		_ = w.Flush() // into a strings.Builder
	}
	fmt.Fprintf(&b, "\n%d requests, %d lost to planned actions, %d lost to the fault itself; %d actions without a fault\n",
		r.Requests, r.LostPlanned, r.LostFault, r.ActionsWithoutFault)
	b.WriteString(amiss(r))
	if r.OK() {
		b.WriteString("all as expected\n")
	}
	return b.String()
}

// amiss says what was not as expected, and what the daemon said of it.
func amiss(r Result) string {
	var b strings.Builder
	for _, f := range r.Faults {
		if f.AsExpected {
			continue
		}
		fmt.Fprintf(&b, "%s was not as expected: %s\n  expected: %s\n", f.Name, strings.Join(f.Amiss, "; "), f.Expected)
		if f.Verdict != "" {
			fmt.Fprintf(&b, "  the verdict was: %s\n", f.Verdict)
		}
	}
	return b.String()
}

func delay(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.1f s", *s)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "NO"
}

func latency(w load.Window) string {
	if w.Requests == 0 {
		return "-"
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	return fmt.Sprintf("%.1f/%.1f", ms(w.P50), ms(w.P99))
}
