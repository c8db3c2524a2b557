package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

// epoch is when every virtual run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// memory is a journal without a disk, whose troubles are scripted. Events go through their text form, as in the real
// one.
type memory struct {
	entries []entryOf
	state   []byte
	upTo    uint64
	delay   time.Duration
	failing string // every write fails
	hanging bool   // no write is answered
	waiting []wait
}

type entryOf struct {
	kind string
	json []byte
}

type wait struct {
	batch uint64
	at    time.Time
	es    []entryOf
	said  bool
}

func (m *memory) append(t testing.TB, now time.Time, batch uint64, es []ft.Event) {
	w := wait{batch: batch, at: now.Add(m.delay)}
	for _, e := range es {
		b, err := ft.MarshalEvent(e)
		if err != nil {
			t.Fatalf("an event has no JSON: %v", err)
		}
		w.es = append(w.es, entryOf{ft.EventKind(e), b})
	}
	m.waiting = append(m.waiting, w)
}

// next is when the journal will answer something.
func (m *memory) next() (time.Time, bool) {
	if m.hanging {
		return time.Time{}, false
	}
	for i := range m.waiting {
		if m.failing == "" || !m.waiting[i].said {
			return m.waiting[i].at, true
		}
	}
	return time.Time{}, false
}

// take is what the journal answers by now.
func (m *memory) take(now time.Time) (ws []engine.Written) {
	if m.hanging {
		return nil
	}
	for i := range m.waiting {
		if w := &m.waiting[i]; m.failing != "" && !w.said && !w.at.After(now) {
			w.said = true
			ws = append(ws, engine.Written{Batch: w.batch, Err: errors.New(m.failing)})
		}
	}
	for m.failing == "" && len(m.waiting) > 0 && !m.waiting[0].at.After(now) {
		w := m.waiting[0]
		m.waiting = m.waiting[1:]
		m.entries = append(m.entries, w.es...)
		ws = append(ws, engine.Written{Batch: w.batch, Seq: uint64(len(m.entries))})
	}
	return ws
}

// Snapshot implements engine.Reader.
func (m *memory) Snapshot(context.Context, ft.PoolName) (state []byte, upTo uint64, err error) {
	return m.state, m.upTo, nil
}

// Events implements engine.Reader.
func (m *memory) Events(_ context.Context, _ ft.PoolName, after uint64, f func(uint64, ft.Event) error) error {
	for i := int(after); i < len(m.entries); i++ {
		e, err := ft.UnmarshalEvent(m.entries[i].kind, m.entries[i].json)
		if err != nil {
			return err
		}
		if err := f(uint64(i+1), e); err != nil {
			return err
		}
	}
	return nil
}

// brain is a whole pool under the engine in virtual time.
type brain struct {
	t       testing.TB
	now     time.Time
	pool    ft.Pool
	world   *World
	journal *memory
	state   *plan.State
	judge   *drift.Judge
	loop    *engine.Loop
	frame   *ft.Frame
	members []ft.Instance
	tick    time.Time
	wake    time.Time
	posted  []ft.Event
	onEvent func(ft.Event)
}

func newBrain(t testing.TB, pool ft.Pool, c Config, onEvent func(ft.Event)) *brain {
	w, err := New(pool, c)
	if err != nil {
		t.Fatal(err)
	}
	b := &brain{
		t: t, now: epoch, pool: pool, world: w, journal: &memory{delay: 2 * time.Millisecond},
		frame: &ft.Frame{Schema: w.Schema()}, onEvent: onEvent,
	}
	b.judge = newJudge(t, w.Schema(), &pool)
	b.begin()
	return b
}

func newJudge(t testing.TB, s *ft.Schema, p *ft.Pool) *drift.Judge {
	d := &p.Detect
	j, err := drift.New(s, drift.Config{
		Interval: d.Interval.D(), Learn: d.Learn.D(), FalseAlarms: d.FalseAlarms, Persist: d.Persist.D(),
		MemoryLimit: float64(p.Limits.Memory), Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// begin starts a brain over what the journal holds and the world runs, as a daemon does.
func (b *brain) begin() {
	s, es, err := engine.Recover(b.t.Context(), b.pool, b.journal, worldDriver{b.world}, b.now)
	if err != nil {
		b.t.Fatal(err)
	}
	b.state = s
	b.loop = engine.New(s, b.judge, journalFunc(func(batch uint64, es []ft.Event) {
		b.journal.append(b.t, b.now, batch, es)
	}), b.world)
	b.loop.OnEvent(b.onEvent)
	b.posted = append([]ft.Event{&ft.Began{Stamp: ft.Stamp{At: b.now}, Version: "test", PID: 1}}, es...)
	b.wake, b.tick = b.now, b.now.Add(b.pool.Detect.Interval.D())
}

// restart kills the brain: what was not durable is lost, actions under way come to their end unseen.
func (b *brain) restart() {
	learnt, err := b.judge.AppendBinary(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.world.Orphan()
	b.journal.waiting = nil
	b.judge = newJudge(b.t, b.world.Schema(), &b.pool)
	if err := b.judge.UnmarshalBinary(learnt); err != nil {
		b.t.Fatal(err)
	}
	b.judge.Retell()
	b.begin()
}

// run moves everything on.
func (b *brain) run(d time.Duration) {
	for end := b.now.Add(d); ; {
		next := end
		for _, at := range b.appointments() {
			if at.Before(next) {
				next = at
			}
		}
		if next.After(b.now) {
			b.now = next
		}
		b.step()
		if !b.now.Before(end) {
			return
		}
	}
}

// appointments are when something is to happen.
func (b *brain) appointments() (at []time.Time) {
	at = append(at, b.tick)
	if !b.wake.IsZero() {
		at = append(at, b.wake)
	}
	if t, ok := b.world.Next(); ok {
		at = append(at, t)
	}
	if t, ok := b.journal.next(); ok {
		at = append(at, t)
	}
	return at
}

func (b *brain) step() {
	in := engine.Inputs{Events: b.posted}
	b.posted = nil
	in.Events = b.world.Advance(b.now, nil, nil, in.Events)
	in.Written = b.journal.take(b.now)
	if !b.now.Before(b.tick) {
		b.tick = b.now.Add(b.pool.Detect.Interval.D())
		b.frame.At = b.now
		b.frame.Rows, b.members = b.state.Rows(b.frame.Rows[:0], b.members[:0], b.now)
		b.frame.Reset(len(b.frame.Rows))
		in.Events = b.world.Advance(b.now, b.members, b.frame, in.Events)
		in.Frame = b.frame
	}
	b.wake = b.loop.Step(b.now, in)
	if !b.wake.IsZero() && !b.wake.After(b.now) {
		// Asked again at once for ever would be a planner that spins.
		b.wake = b.now.Add(time.Millisecond)
	}
}

// replayed is the state that the journal alone gives.
func (b *brain) replayed() []byte {
	s := plan.New(b.pool)
	err := b.journal.Events(b.t.Context(), b.pool.Name, 0, func(_ uint64, e ft.Event) error {
		if err := s.Apply(e); err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
		return nil
	})
	if err != nil {
		b.t.Errorf("the journal does not fit itself: %v", err)
	}
	return b.snapshot(s)
}

func (b *brain) snapshot(s *plan.State) []byte {
	j, err := s.Snapshot()
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

// checkReplay holds that what was recorded gives the state that lives.
func (b *brain) checkReplay() {
	if len(b.journal.waiting) > 0 {
		return // what is not durable cannot be replayed
	}
	live, again := b.snapshot(b.state), b.replayed()
	if !bytes.Equal(live, again) {
		b.t.Errorf("replay of the journal differs from the live state:\nlive   %s\nreplay %s", live, again)
	}
}

type journalFunc func(uint64, []ft.Event)

func (f journalFunc) Append(batch uint64, es []ft.Event) { f(batch, es) }

// worldDriver is what Recover needs of a driver, in virtual time.
type worldDriver struct{ w *World }

func (d worldDriver) List(context.Context, ft.PoolName) ([]ft.Instance, error) {
	return d.w.List(), nil
}

func (d worldDriver) Knobs(_ *ft.Pool, in ft.Instance) []ft.Knob {
	i, err := d.w.life(in.Ref)
	if err != nil {
		return nil
	}
	return knobs(i)
}

func (d worldDriver) Set(context.Context, *ft.Pool, ft.Ref, ft.Setting) (ft.Setting, error) {
	return ft.Setting{}, ft.ErrUnavailable
}

func (d worldDriver) Start(context.Context, *ft.Pool, ft.Ref, ft.Work) (ft.Instance, error) {
	return ft.Instance{}, ft.ErrUnavailable
}
func (d worldDriver) Stop(context.Context, ft.Ref, time.Duration) error { return ft.ErrUnavailable }
func (d worldDriver) Watch(context.Context, func(ft.Ref, ft.Exit)) error {
	return ft.ErrUnavailable
}
