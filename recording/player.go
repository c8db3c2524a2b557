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
	Rows               []ft.Ref // whose the rows of the frame are; none where there was no frame
	Recorded, Replayed []ft.Event
	began, begun       []uint64 // numbers of the actions that were begun
}

// Player lets a loop see a recording again.
type Player struct {
	r     *Reader
	loop  *engine.Loop
	state *plan.State
	judge *drift.Judge
	made  []ft.Event
	did   []uint64
	what  *whatIf // nil where the policy is as it was
	anew  bool
}

// Play begins a replay with the policy as it was: the loop sees what the recorded one saw, and decides the same.
func Play(r *Reader) (*Player, error) {
	p := &Player{r: r}
	return p, p.begin(r.Header().base(), false)
}

// begin makes the loop.
func (p *Player) begin(b *engine.Base, anew bool) error {
	h := p.r.Header()
	var judge *drift.Judge
	var err error
	if h.Judge != nil {
		if judge, err = drift.New(p.r.Schema(), b.Judge); err != nil {
			return fmt.Errorf("recording: judge: %w", err)
		}
		if len(h.learnt) > 0 && !anew {
			if err := judge.UnmarshalBinary(h.learnt); err != nil {
				return fmt.Errorf("recording: %w: %w", ErrLearnt, err)
			}
		}
	}
	p.anew, p.judge = anew, judge
	p.loop, p.state, err = engine.Resume(b, p.r.Schema(), judge, silent{}, p)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	p.loop.Tap(p)
	h.learnt = nil
	return nil
}

// Anew tells whether the judge learns anew from the recording.
func (p *Player) Anew() bool { return p.anew }

// Judge is the judge of the replay, nil where nothing was judged. After a turn with a frame it tells of the frame's rows what
// the recorded one told after that step, as [drift.Judge.Scores] does. It is good between two calls of Next.
func (p *Player) Judge() *drift.Judge { return p.judge }

// silent is a journal whose answers are among the inputs.
type silent struct{}

// Append implements [engine.Journal].
func (silent) Append(uint64, []ft.Event) {}

// Do implements [engine.Executor]. With the policy as it was, outcomes are among the inputs.
func (p *Player) Do(a ft.Action, _ ft.Instance) {
	if p.what != nil {
		p.what.do(&a)
	}
}

// Before implements [engine.Tap].
func (p *Player) Before(time.Time, engine.Inputs) {}

// After implements [engine.Tap].
func (p *Player) After(made []ft.Event, did []ft.Action) bool {
	p.made = append(p.made, made...)
	for i := range did {
		p.did = append(p.did, did[i].ID)
	}
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
	p.made, p.did = p.made[:0], p.did[:0]
	if p.what == nil {
		p.loop.Step(s.At, engine.Inputs{Frame: s.Frame, Events: s.Events, Written: s.Written})
	} else if err := p.what.step(p, s); err != nil {
		return nil, fmt.Errorf("recording: line %d: %w", p.r.Line(), err)
	}
	t := &Turn{At: s.At, Recorded: s.Made, Replayed: p.made, began: s.Did, begun: p.did}
	if s.Frame != nil {
		t.Rows = s.Rows
	}
	return t, nil
}
