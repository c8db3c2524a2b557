package recording

import (
	"errors"
	"fmt"
	"io"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

// Turn is one step, as it was recorded and as it was replayed.
type Turn struct {
	At                 time.Time
	Rows               int // of the frame; 0 where there was none
	Recorded, Replayed []ft.Event
}

// Player lets a loop see a recording again.
type Player struct {
	r     *Reader
	loop  *engine.Loop
	state *plan.State

	made []ft.Event
}

// Play begins a replay. With the policy as it was, a loop sees what the recorded one saw and decides the same.
func Play(r *Reader) (*Player, error) { return play(r) }

func play(r *Reader) (*Player, error) {
	p := &Player{r: r}
	h := r.Header()
	var judge *drift.Judge
	var err error
	b := h.base()
	if h.Judge != nil {
		if judge, err = drift.New(r.Schema(), b.Judge); err != nil {
			return nil, fmt.Errorf("recording: judge: %w", err)
		}
		if len(h.learnt) > 0 {
			if err := judge.UnmarshalBinary(h.learnt); err != nil {
				return nil, fmt.Errorf("recording: what was learnt: %w", err)
			}
		}
	}
	p.loop, p.state, err = engine.Resume(b, r.Schema(), judge, silent{}, p)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	p.loop.Tap(p)
	return p, nil
}

// silent is a journal whose answers are among the inputs.
type silent struct{}

// Append implements [engine.Journal].
func (silent) Append(uint64, []ft.Event) {}

// Do implements [engine.Executor]: outcomes are among the inputs.
func (p *Player) Do(ft.Action, ft.Instance) {}

// Before implements [engine.Tap].
func (p *Player) Before(time.Time, engine.Inputs) {}

// After implements [engine.Tap].
func (p *Player) After(made []ft.Event, _ []ft.Action) bool {
	p.made = append(p.made, made...)
	return true
}

// Next replays the next step. At the end of the recording it gives io.EOF. The turn's slices are good until the next call.
func (p *Player) Next() (*Turn, error) {
	s, err := p.r.Next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, err
	}
	p.made = p.made[:0]
	p.loop.Step(s.At, engine.Inputs{Frame: s.Frame, Events: s.Events, Written: s.Written})
	t := &Turn{At: s.At, Recorded: s.Made, Replayed: p.made}
	if s.Frame != nil {
		t.Rows = len(s.Frame.Rows)
	}
	return t, nil
}
