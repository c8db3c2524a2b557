package plan

import (
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// large is a pool of n instances in service, all steady.
func large(tb testing.TB, n int) (*State, time.Time) {
	tb.Helper()
	p := webPool(n)
	s := New(p)
	now := start
	for i := range n {
		ref := ft.Ref{ID: ft.NewInstanceID("web", uint32(i+1)), Generation: 1}
		if err := s.Apply(&ft.Found{Stamp: ft.Stamp{At: now}, Instance: ft.Instance{Ref: ref, Born: now}}); err != nil {
			tb.Fatal(err)
		}
	}
	var out []ft.Event
	for range 4 {
		out, _ = s.Next(out[:0], now)
		for _, e := range out {
			if err := s.Apply(e); err != nil {
				tb.Fatal(err)
			}
			if i, ok := e.(*ft.Intended); ok {
				if err := s.Apply(&ft.Finished{Stamp: ft.Stamp{At: now}, Action: i.Action}); err != nil {
					tb.Fatal(err)
				}
			}
		}
	}
	for i := range n {
		judged(tb, s, i, ft.Steady, now)
	}
	if s.sum.Ready != n || len(s.d.Ops) != 0 {
		tb.Fatalf("%d of %d are in service, %d operations", s.sum.Ready, n, len(s.d.Ops))
	}
	return s, now.Add(time.Minute)
}

func judged(tb testing.TB, s *State, i int, l ft.Level, at time.Time) {
	tb.Helper()
	m := s.d.Members[i]
	if err := s.Apply(&ft.Judged{Stamp: ft.Stamp{At: at}, Ref: m.In.Ref, Verdict: ft.Verdict{Level: l, Cause: ft.InstanceChanged, Extent: ft.ThisInstance}}); err != nil {
		tb.Fatal(err)
	}
}

const many = 100_000

// BenchmarkNextQuiet: nobody is due.
func BenchmarkNextQuiet(b *testing.B) {
	s, now := large(b, many)
	out := make([]ft.Event, 0, 64)
	for b.Loop() {
		out, _ = s.Next(out[:0], now)
	}
	if len(out) > 0 {
		b.Fatal(out[0])
	}
}

// BenchmarkNextDrifting: a hundred instances drift and the breaker is far from closing.
func BenchmarkNextDrifting(b *testing.B) {
	s, now := large(b, many)
	for i := range 100 {
		judged(b, s, i*997, ft.Critical, now)
	}
	now = now.Add(time.Minute)
	out := make([]ft.Event, 0, 64)
	for b.Loop() {
		out, _ = s.Next(out[:0], now)
	}
}

// BenchmarkApplyJudged: a verdict changes.
func BenchmarkApplyJudged(b *testing.B) {
	s, now := large(b, many)
	i, l := 0, ft.Steady
	for b.Loop() {
		if i = (i + 7919) % many; i < 7919 {
			l ^= 1
		}
		judged(b, s, i, l, now)
	}
}

// BenchmarkRows: a frame's rows.
func BenchmarkRows(b *testing.B) {
	s, now := large(b, many)
	var rows []ft.Row
	var ins []ft.Instance
	for b.Loop() {
		rows, ins = s.Rows(rows[:0], ins[:0], now)
	}
}
