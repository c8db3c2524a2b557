package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/recording"
)

// taping is a recording of a virtual brain under way.
type taping struct {
	file    bytes.Buffer
	scores  *scores
	stopped chan struct{}
	done    chan error
}

// tape begins to record a brain, from its present state on.
func (b *brain) tape() *taping {
	base, err := b.loop.Base()
	if err != nil {
		b.t.Fatal(err)
	}
	r := recording.New(base, b.world.Schema(), recording.Options{Fettle: "test", Waiting: 1 << 16})
	tp := &taping{scores: &scores{judge: b.judge}, stopped: make(chan struct{}), done: make(chan error, 1)}
	b.loop.Tap(r)
	b.loop.Tap(tp.scores)
	go func() {
		w := recording.NewWriter(&tp.file)
		err := r.Run(b.t.Context(), tp.stopped, w.Line)
		if errors.Is(err, engine.ErrStopped) {
			err = w.End(recording.End{At: epoch, Reason: "test"})
		}
		tp.done <- err
	}()
	return tp
}

// scores are what the judge said of each row of each frame, as a tap on its loop hears it.
type scores struct {
	judge *drift.Judge
	fed   bool // the step under way has a frame
	all   []drift.Scores
}

func (s *scores) Before(_ time.Time, in engine.Inputs) { s.fed = in.Frame != nil }

func (s *scores) After([]ft.Event, []ft.Action) bool {
	if s.fed {
		s.all = s.judge.Scores(s.all)
	}
	return true
}

// differ compares with the scores of a replay, bit for bit.
func (s *scores) differ(replayed []drift.Scores) string {
	return cmp.Diff(s.all, replayed, cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }))
}

// end gives the file.
func (tp *taping) end(t testing.TB) []byte {
	close(tp.stopped)
	if err := <-tp.done; err != nil {
		t.Fatal(err)
	}
	return tp.file.Bytes()
}

// replayEqual replays a recording and returns how many decisions and verdicts were compared; a difference is said. So is one
// of the scores from those that were heard live.
func replayEqual(t testing.TB, file []byte, live *scores) (n int, difference string) {
	r, err := recording.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	p, err := recording.Play(r)
	if err != nil {
		t.Fatal(err)
	}
	var again []drift.Scores
	for {
		turn, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(turn.Recorded)
		if d := turn.Difference(); d != nil {
			return n, d.String()
		}
		if len(turn.Rows) > 0 {
			again = p.Judge().Scores(again)
		}
	}
	if d := live.differ(again); d != "" {
		return n, "scores differ (- live, + replayed):\n" + d
	}
	if end, err := r.End(); err != nil || end.Reason != "test" {
		t.Fatalf("the end is %+v, %v", end, err)
	}
	return n, ""
}

// TestRecordingOfAnyRunReplaysIt holds that a replay decides what was decided live, wherever the recording begins: in the
// middle of an operation, a trial, a drift, a failing journal.
func TestRecordingOfAnyRunReplaysIt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
		p.Size.Min = rapid.IntRange(1, 5).Draw(rt, "n")
		p.Size.Max = p.Size.Min + rapid.IntRange(1, 2).Draw(rt, "room")
		p.Heal.Young = ft.Duration(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(rt, "young"))
		p.Detect.Interval, p.Detect.Learn = ft.Duration(5*time.Second), ft.Duration(200*time.Second)
		p.Limits.Memory = 512 << 20
		p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset", Body: "secret"}}
		p.Image.Env = map[string]string{"TOKEN": "secret"}
		p.Defaults()
		s := &script{t: t}
		s.b = newBrain(t, p, Config{Seed: rapid.Uint64().Draw(rt, "seed")}, func(ft.Event) {})
		troubles := func(n int) {
			for range n {
				step(rt, s)
				s.b.run(time.Duration(rapid.IntRange(0, 240_000).Draw(rt, "ms")) * time.Millisecond)
			}
		}
		s.b.run(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Minute}).Draw(rt, "at first"))
		troubles(rapid.IntRange(0, 6).Draw(rt, "before"))
		tp := s.b.tape()
		troubles(rapid.IntRange(1, 6).Draw(rt, "troubles"))
		file := tp.end(t)
		if bytes.Contains(file, []byte("secret")) {
			rt.Fatal("a secret is in the file")
		}
		if n, d := replayEqual(t, file, tp.scores); d != "" {
			rt.Fatalf("after %d: %s", n, d)
		}
	})
}

// TestReplayUnderTheSamePolicyAgrees holds that what is decided under another policy differs by that policy only: with the
// same one, where the journal has no trouble, the same is decided.
func TestReplayUnderTheSamePolicyAgrees(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
		p.Size.Min = rapid.IntRange(1, 4).Draw(rt, "n")
		p.Size.Max = p.Size.Min + 2
		p.Heal.Young = ft.Duration(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(rt, "young"))
		p.Detect.Interval, p.Detect.Learn = ft.Duration(5*time.Second), ft.Duration(200*time.Second)
		p.Limits.Memory = 512 << 20
		p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset"}}
		p.Defaults()
		s := &script{t: t}
		s.b = newBrain(t, p, Config{Seed: rapid.Uint64().Draw(rt, "seed")}, func(ft.Event) {})
		tp := s.b.tape()
		s.b.run(5 * time.Minute)
		for range rapid.IntRange(1, 8).Draw(rt, "troubles") {
			step(rt, s)
			s.b.journal.failing, s.b.journal.hanging = "", false
			s.b.run(time.Duration(rapid.IntRange(0, 240_000).Draw(rt, "ms")) * time.Millisecond)
		}
		r, err := recording.NewReader(bytes.NewReader(tp.end(t)))
		if err != nil {
			rt.Fatal(err)
		}
		play, err := recording.PlayChanged(r, false, func(*ft.Pool) error { return nil })
		if err != nil {
			rt.Fatal(err)
		}
		for {
			turn, err := play.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				rt.Fatal(err)
			}
			for _, l := range turn.Compare() {
				if l.Side != recording.Both {
					rt.Fatalf("%s: side %d: %s %s", turn.At, l.Side, ft.EventKind(l.Event), l.Event)
				}
			}
		}
	})
}

// recordedRun records a pool in which one instance leaks after five minutes, for ten more.
func recordedRun(t *testing.T, mode ft.Mode, young time.Duration, trouble string) []byte {
	p := ft.Pool{Name: "web", Mode: mode, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
	p.Size.Min, p.Heal.Young = 3, ft.Duration(young)
	p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset"}}
	p.Defaults()
	s := &script{t: t}
	s.b = newBrain(t, p, Config{Seed: 3}, func(ft.Event) {})
	s.b.run(10 * time.Second)
	tp := s.b.tape()
	s.b.run(6 * time.Minute)
	if err := s.do(strings.Fields(trouble)); err != nil {
		t.Fatal(err)
	}
	s.b.run(10 * time.Minute)
	return tp.end(t)
}

// whatIf replays a file under another policy and gives what only one side decided, as text.
func whatIf(t interface{ Fatal(args ...any) }, file []byte, change func(*ft.Pool) error) (lines []string, sum recording.Summary) {
	r, err := recording.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	play, err := recording.PlayChanged(r, false, change)
	if err != nil {
		t.Fatal(err)
	}
	for {
		turn, err := play.Next()
		if errors.Is(err, io.EOF) {
			return lines, sum
		}
		if err != nil {
			t.Fatal(err)
		}
		sum.Add(turn)
		for _, l := range turn.Compare() {
			if ft.EventKind(l.Event) != "health" && l.Side != recording.Both {
				lines = append(lines, []string{"=", "-", "+"}[l.Side]+" "+l.Event.String())
			}
		}
	}
}

func has(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, part) })
}

// TestWhatIfYoung: with another notion of young, the drifting instance would have been replaced rather than soft reset; it
// is said that this was not done, and once.
func TestWhatIfYoung(t *testing.T) {
	file := recordedRun(t, ft.HealAutomatic, time.Hour, "slow web-2 60ms")
	lines, sum := whatIf(t, file, func(p *ft.Pool) error { p.Heal.Young = ft.Duration(time.Second); return nil })
	for _, want := range []string{
		"- soft-reset web-2: ", "+ evict web-2: ", "+ start web-4 skipped: " + recording.NotDone, "+ evict web-2 abandoned: " + recording.NotDone,
	} {
		if !has(lines, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if sum.Operations["soft-reset"].Recorded == 0 || sum.Operations["evict"].Replayed == 0 || sum.Operations["evict"].Recorded != 0 || sum.Skipped == 0 {
		t.Errorf("summary %+v", sum)
	}
	if sum.Operations["evict"].Replayed > 5 {
		t.Errorf("it is told %d times", sum.Operations["evict"].Replayed)
	}
	if t.Failed() {
		t.Log(strings.Join(lines, "\n"))
	}
}

// TestWhatIfHeal: of a pool that was only observed, it is said what would have been done; the ladder is climbed as it would be
// if each step had not helped, and no faster.
func TestWhatIfHeal(t *testing.T) {
	file := recordedRun(t, ft.Observe, time.Hour, "slow web-2 60ms")
	lines, sum := whatIf(t, file, func(p *ft.Pool) error { p.Mode = ft.HealAutomatic; return nil })
	if !has(lines, "+ soft-reset web-2: ") || !has(lines, "- web-2 left alone: mode observe") || sum.Operations["soft-reset"].Recorded != 0 {
		t.Errorf("summary %+v", sum)
	}
	n := 0
	for _, p := range sum.Operations {
		n += p.Replayed - p.Recorded
	}
	if n < 1 || n > 20 {
		t.Errorf("%d operations would have been opened in ten minutes", n)
	}
	if t.Failed() {
		t.Log(strings.Join(lines, "\n"))
	}
}

// TestWhatIfAnything holds that no change of policy makes a replay fail or spin, whatever was recorded.
func TestWhatIfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := ft.Pool{Name: "web", Mode: rapid.SampledFrom([]ft.Mode{ft.Observe, ft.HealAutomatic}).Draw(rt, "mode"), Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
		p.Size.Min = rapid.IntRange(1, 4).Draw(rt, "n")
		p.Heal.Young = ft.Duration(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(rt, "young"))
		p.Detect.Interval, p.Detect.Learn = ft.Duration(5*time.Second), ft.Duration(200*time.Second)
		p.Limits.Memory = 512 << 20
		p.Image.Hooks.SoftReset = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset"}}
		p.Defaults()
		s := &script{t: t}
		s.b = newBrain(t, p, Config{Seed: rapid.Uint64().Draw(rt, "seed")}, func(ft.Event) {})
		s.b.run(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Minute}).Draw(rt, "at first"))
		tp := s.b.tape()
		s.b.run(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Minute}).Draw(rt, "then"))
		for range rapid.IntRange(1, 8).Draw(rt, "troubles") {
			step(rt, s)
			s.b.run(time.Duration(rapid.IntRange(0, 240_000).Draw(rt, "ms")) * time.Millisecond)
		}
		file := tp.end(t)
		min, mode := rapid.IntRange(0, 6).Draw(rt, "size.min"), rapid.SampledFrom([]ft.Mode{ft.Observe, ft.AdjustOnly, ft.HealAutomatic}).Draw(rt, "set mode")
		young := rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(rt, "set young")
		memory := rapid.SampledFrom([]ft.Size{0, 64 << 20, 1 << 30}).Draw(rt, "set memory")
		learn := rapid.SampledFrom([]time.Duration{200 * time.Second, 150 * time.Second}).Draw(rt, "set learn")
		_, sum := whatIf(rt, file, func(p *ft.Pool) error {
			p.Size = ft.Sizing{Min: min, Max: min + 1}
			p.Mode, p.Heal.Young, p.Limits.Memory, p.Detect.Learn = mode, ft.Duration(young), memory, ft.Duration(learn)
			return nil
		})
		seconds := int(sum.Ended.Sub(sum.Began).Seconds())
		if most := 2*sum.Decided.Recorded + 200 + seconds; sum.Decided.Replayed > most {
			rt.Fatalf("%d decisions in %ds, recorded %d", sum.Decided.Replayed, seconds, sum.Decided.Recorded)
		}
	})
}

// TestExportedTelemetryIsJudgedAlike holds that measurements that were exported and imported give the same verdicts as the
// recording that they are of.
func TestExportedTelemetryIsJudgedAlike(t *testing.T) {
	for _, trouble := range []string{"slow web-2 60ms", "leak web-3 6MiB/s", "crash web-1", "load x2", "mix web-1 reports"} {
		file := recordedRun(t, ft.HealAutomatic, time.Hour, trouble)
		open := func() (*recording.Reader, error) { return recording.NewReader(bytes.NewReader(file)) }
		x, err := recording.Export(open, t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		schema, err := os.ReadFile(x.Schema)
		if err != nil {
			t.Fatal(err)
		}
		var in []recording.Input
		for _, name := range x.Files {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			in = append(in, recording.Input{Name: name, R: f})
		}
		var again bytes.Buffer
		w := recording.NewWriter(&again)
		got, err := recording.Import(in, recording.ImportOptions{Schema: schema}, w.Line)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if got.Pool != "web" || got.Rows != x.Rows || got.Frames > x.Frames {
			t.Fatalf("imported %+v, exported %+v", got, x)
		}
		want, have := verdicts(t, file), verdicts(t, again.Bytes())
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("%s: verdicts differ (- recorded, + imported):\n%s", trouble, d)
		}
		if len(want) < 4 {
			t.Errorf("%s: only %d verdicts were compared", trouble, len(want))
		}
	}
}

// verdicts are those of a replay, in words.
func verdicts(t *testing.T, file []byte) (out []string) {
	r, err := recording.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	// Learning anew, as who imports does, and without baselines that were accepted.
	play, err := recording.PlayChanged(r, true, func(p *ft.Pool) error { p.Mode = ft.Observe; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for {
		turn, err := play.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range turn.Replayed {
			if j, is := e.(*ft.Judged); is {
				out = append(out, fmt.Sprintf("%s %s %v %s", j.At.Format(time.TimeOnly), j.Ref, j.Verdict.Score, j.Text))
			}
		}
	}
}

// TestRecordingBeginsWithinALimit: how long a limit has been exceeded when the recording begins counts in the replay.
func TestRecordingBeginsWithinALimit(t *testing.T) {
	p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":8080", Image: ft.Image{Command: []string{"sim"}}}
	p.Size.Min, p.Limits.Memory, p.Detect.Persist = 2, 128<<20, ft.Duration(time.Minute)
	p.Defaults()
	s := &script{t: t}
	var exceeded []time.Time
	s.b = newBrain(t, p, Config{Seed: 3}, func(e ft.Event) {
		if x, is := e.(*ft.Exceeded); is {
			exceeded = append(exceeded, x.At)
		}
	})
	s.b.run(time.Minute)
	if err := s.do([]string{"leak", "web-1", "8MiB/s"}); err != nil {
		t.Fatal(err)
	}
	s.b.run(40 * time.Second)
	if len(exceeded) > 0 {
		t.Fatal("the limit was told too early for this test")
	}
	began := s.b.now
	tp := s.b.tape()
	s.b.run(3 * time.Minute)
	if len(exceeded) == 0 || exceeded[0].Sub(began) >= time.Minute {
		t.Fatalf("the limit was told at %v, the recording began at %s", exceeded, began)
	}
	if n, d := replayEqual(t, tp.end(t), tp.scores); d != "" {
		t.Errorf("after %d: %s", n, d)
	}
}

// TestWhatIfObserve: what recorded actions did happened anyhow. The instance that was replaced is gone and is not started
// again, and the one that took its place is judged and left in service.
func TestWhatIfObserve(t *testing.T) {
	file := recordedRun(t, ft.HealAutomatic, time.Second, "slow web-2 60ms")
	lines, sum := whatIf(t, file, func(p *ft.Pool) error { p.Mode = ft.Observe; return nil })
	if !has(lines, "- evict web-2: ") || !has(lines, "+ web-2 left alone: mode observe") || sum.Operations["evict"].Replayed != 0 {
		t.Errorf("summary %+v", sum)
	}
	for _, never := range []string{"+ replace web-2", "+ start web-", "+ full-reset web-", "skipped"} {
		if has(lines, never) {
			t.Errorf("%q happened", never)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(lines, "\n"))
	}
}
