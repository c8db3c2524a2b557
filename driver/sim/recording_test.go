package sim

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/recording"
)

// taping is a recording of a virtual brain under way.
type taping struct {
	file    bytes.Buffer
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
	b.loop.Tap(r)
	tp := &taping{stopped: make(chan struct{}), done: make(chan error, 1)}
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

// end gives the file.
func (tp *taping) end(t testing.TB) []byte {
	close(tp.stopped)
	if err := <-tp.done; err != nil {
		t.Fatal(err)
	}
	return tp.file.Bytes()
}

// replayEqual replays a recording and returns how many decisions and verdicts were compared; a difference is said.
func replayEqual(t testing.TB, file []byte) (n int, difference string) {
	r, err := recording.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	p, err := recording.Play(r)
	if err != nil {
		t.Fatal(err)
	}
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
		if n, d := replayEqual(t, file); d != "" {
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
