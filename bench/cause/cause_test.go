package main

import (
	"bufio"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// hear lets one subject give verdicts, one a frame.
func hear(w *witness, f *ft.Frame, id ft.InstanceID, vs ...ft.Verdict) {
	for i, v := range vs {
		f.At = time.Unix(int64(i), 0)
		w.hear(id, v, f)
	}
}

func verdict(level ft.Level, cause ft.Cause, extent ft.Extent) ft.Verdict {
	return ft.Verdict{Level: level, Cause: cause, Extent: extent, Score: float32(level)}
}

func TestTheStrongestVerdictThatStoodIsTheAnswer(t *testing.T) {
	ill := func(l ft.Level) ft.Verdict { return verdict(l, ft.InstanceChanged, ft.ThisInstance) }
	work := func(l ft.Level) ft.Verdict { return verdict(l, ft.WorkloadChanged, ft.ThisInstance) }
	rep := func(v ft.Verdict, n int) []ft.Verdict { return slices.Repeat([]ft.Verdict{v}, n) }
	for _, c := range []struct {
		name  string
		given []ft.Verdict
		want  ft.Cause
		none  bool
	}{
		{name: "two frames are no verdict", given: slices.Concat(rep(ill(ft.Critical), 2), rep(ill(ft.Steady), 5)), none: true},
		{name: "three are", given: rep(ill(ft.Low), 3), want: ft.InstanceChanged},
		{name: "a steady frame between them", given: slices.Concat(rep(ill(ft.Low), 2), rep(ill(ft.Steady), 1), rep(ill(ft.Low), 2)), none: true},
		{
			name: "a level counts that stood, not a crest", want: ft.InstanceChanged,
			given: slices.Concat(rep(ill(ft.High), 3), rep(work(ft.Low), 9), rep(work(ft.Critical), 2)),
		},
		{name: "the longer one of the same level", given: slices.Concat(rep(work(ft.High), 3), rep(ill(ft.High), 5)), want: ft.InstanceChanged},
		{name: "the first one of the same length", given: slices.Concat(rep(work(ft.High), 4), rep(ill(ft.High), 4)), want: ft.WorkloadChanged},
	} {
		w := newWitness(3)
		hear(w, &ft.Frame{}, "a", c.given...)
		got := w.strongest()
		if c.none != (got == nil) || got != nil && got.cause != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestRightNamesCauseScopeAndInstance(t *testing.T) {
	said := func(id ft.InstanceID, c ft.Cause, e ft.Extent) *standing {
		return &standing{answer: answer{c, e}, id: id}
	}
	for _, c := range []struct {
		s       scenario
		n       int
		said    *standing
		right   bool
		unknown bool
	}{
		{scenario{leak, false}, 4, said("v", ft.InstanceChanged, ft.ThisInstance), true, false},
		{scenario{leak, false}, 4, said("b", ft.InstanceChanged, ft.ThisInstance), false, false},
		{scenario{leak, false}, 4, said("v", ft.InstanceChanged, ft.WholePool), false, false},
		{scenario{leak, false}, 4, said("v", ft.WorkloadChanged, ft.ThisInstance), false, false},
		{scenario{leak, false}, 4, said("v", ft.InstanceChanged, ft.ExtentUnknown), false, true},
		{scenario{leak, false}, 1, said("v", ft.InstanceChanged, ft.ExtentUnknown), true, false},
		{scenario{leak, true}, 4, said("", ft.InstanceChanged, ft.WholePool), true, false},
		{scenario{leak, true}, 4, said("", ft.CauseUnknown, ft.WholePool), false, true},
		{scenario{routes, true}, 3, said("", ft.WorkloadChanged, ft.WholePool), true, false},
		{scenario{dependency, true}, 3, said("", ft.DependencyChanged, ft.WholePool), true, false},
		{scenario{dependency, true}, 3, said("", ft.InstanceChanged, ft.WholePool), false, false},
		{scenario{leak, true}, 4, nil, false, false},
		{scenario{control, true}, 4, nil, true, false},
		{scenario{control, true}, 4, said("", ft.CauseUnknown, ft.WholePool), false, true},
	} {
		o := &outcome{stretch: &stretch{Kind: c.s.kind, All: c.s.all, Victim: "v"}, n: c.n, said: c.said}
		if o.right() != c.right || o.unknown() != c.unknown {
			t.Errorf("%s, N = %d, %s: right %v, unknown %v", c.s, c.n, o.answered(), o.right(), o.unknown())
		}
	}
}

func TestAPoolIsMadeOfItsMembersRows(t *testing.T) {
	s, err := ft.NewSchema([]ft.Dimension{{Name: "a"}, {Name: "b", Role: ft.Response}}, ft.CategorySet{Name: "c", Size: 2})
	if err != nil {
		t.Fatal(err)
	}
	full := ft.Frame{Schema: s, Rows: make([]ft.Row, 4)}
	full.Reset(4)
	var ids []ft.InstanceID
	for r := range full.Rows {
		full.Rows[r].Slot = ft.Slot(r)
		full.X[2*r], full.X[2*r+1], full.Counts[2*r], full.Span[r], full.Have[r] = float64(r), float64(10*r), uint32(r), float32(r), ft.Dims(r)
		ids = append(ids, ft.InstanceID("abcd"[r:r+1]))
	}
	tp := &tape{schema: s, frames: []ft.Frame{full}, ids: [][]ft.InstanceID{ids}}
	who := tp.subset("d", 2)
	if !slices.Equal(who, []ft.InstanceID{"d", "a"}) {
		t.Fatalf("members %v", who)
	}
	var f ft.Frame
	got := tp.of(&f, 0, who)
	if !slices.Equal(got, []ft.InstanceID{"a", "d"}) || !slices.Equal(f.X, []float64{0, 0, 3, 30}) || !slices.Equal(f.Counts, []uint32{0, 0, 3, 0}) {
		t.Errorf("%v: %v, %v", got, f.X, f.Counts)
	}
	if len(f.Rows) != 2 || f.Rows[1].Slot != 3 || f.Span[1] != 3 || f.Have[1] != 3 {
		t.Errorf("rows %+v, spans %v, have %v", f.Rows, f.Span, f.Have)
	}
}

func TestMoreOrLessWorkIsThatOfWhomItIsMeantFor(t *testing.T) {
	const arrivals = 40000
	for _, c := range []*change{nil, {kind: loadUp, of: "v", size: 2}, {kind: loadDown, of: "v", size: 0.5}, {kind: routes, of: "v"}} {
		rnd := rand.New(rand.NewPCG(1, 2))
		most := max(1, c.factor())
		var victim, other float64
		for i := range int(arrivals * most) {
			switch i % 2 {
			case 0:
				victim += one(keep(rnd, c, true))
			default:
				other += one(keep(rnd, c, false))
			}
		}
		want := c.factor()
		if f := victim / (arrivals / 2); f < 0.95*want || f > 1.05*want {
			t.Errorf("%+v: the victim has %.2f times its work, want %.2f", c, f, want)
		}
		if f := other / (arrivals / 2); f < 0.95 || f > 1.05 {
			t.Errorf("%+v: another has %.2f times its work", c, f)
		}
	}
}

func TestRedisAnswers(t *testing.T) {
	const answers = "+OK\r\n$3\r\nabc\r\n$-1\r\n*2\r\n$1\r\na\r\n$-1\r\n:12\r\n-ERR no\r\n$0\r\n\r\n"
	c := &redisConn{in: bufio.NewReader(strings.NewReader(answers))}
	for i, want := range []bool{true, true, false, true, true, false, true} {
		found, err := c.reply()
		if found != want || (err != nil) != (i == 5) {
			t.Errorf("answer %d: %v, %v", i, found, err)
		}
	}
	if _, err := c.reply(); err == nil {
		t.Error("an answer that broke off is taken")
	}
}

func TestEachScenarioHasAFileAndTheSameDraw(t *testing.T) {
	files, victims := map[string]bool{}, map[int]bool{}
	for _, s := range scenarios() {
		files[fileOf("d", s)] = true
		v, size := draw(3, s)
		again, sizeAgain := draw(3, s)
		if v != again || size != sizeAgain || size < 0.79*s.usual() || size > 1.26*s.usual() {
			t.Errorf("%s: victim %d, %d, size %g, %g", s, v, again, size, sizeAgain)
		}
		victims[v] = true
	}
	if len(files) != len(scenarios()) || len(victims) < 4 {
		t.Errorf("%d files for %d scenarios, %d victims", len(files), len(scenarios()), len(victims))
	}
}
