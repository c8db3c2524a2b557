package sim

import (
	"errors"
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// outcome is what an action will come to: how long it takes, and what is so then.
type outcome struct {
	takes time.Duration
	done  func() (*ft.Finished, error)
}

// Do begins an action; its outcome is among the events of a later Advance. It implements engine.Executor.
func (w *World) Do(a ft.Action, _ ft.Instance) {
	o, begun, epoch := w.prepare(a), w.now, w.epoch
	w.after(o.takes, func() {
		f, err := o.done()
		if epoch != w.epoch {
			return
		}
		if f == nil {
			f = &ft.Finished{}
		}
		if err != nil {
			f = failed(err)
		}
		f.Stamp, f.Action, f.Took = w.stamp(), a, ft.Duration(w.now.Sub(begun))
		w.say(f)
	})
}

// prepare works out an action as of now.
func (w *World) prepare(a ft.Action) outcome {
	const quick = 5 * time.Millisecond
	simple := func(takes time.Duration, f func(*instance) (*ft.Finished, error)) outcome {
		return outcome{takes, func() (*ft.Finished, error) {
			in, err := w.life(a.Ref)
			if err != nil {
				return nil, err
			}
			return f(in)
		}}
	}
	switch a.Verb {
	case ft.Start:
		return w.start(a, w.c.Start, a.Ref)
	case ft.FullReset:
		if in := w.find(a.Ref.ID); in != nil {
			in.admitted = false
		}
		next := a.Ref
		next.Generation++
		return w.start(a, w.c.Reset, next)
	case ft.Specialize:
		return simple(time.Second, func(in *instance) (*ft.Finished, error) {
			in.Work = a.Work
			v := in.view()
			return &ft.Finished{Instance: &v}, nil
		})
	case ft.Admit:
		return simple(quick, func(in *instance) (*ft.Finished, error) { w.admit(in, a.Weight); return nil, nil })
	case ft.Weigh:
		return simple(quick, func(in *instance) (*ft.Finished, error) { in.weight = a.Weight; return nil, nil })
	case ft.Drain:
		return w.drain(a)
	case ft.Quarantine:
		return outcome{quick, func() (*ft.Finished, error) {
			if in := w.find(a.Ref.ID); in != nil {
				in.admitted = false
			}
			return nil, nil
		}}
	case ft.Stop:
		return outcome{w.c.Soft, func() (*ft.Finished, error) {
			if in := w.find(a.Ref.ID); in != nil && in.Generation <= a.Ref.Generation {
				w.remove(in)
			}
			return nil, nil
		}}
	case ft.Tune:
		return simple(quick, func(in *instance) (*ft.Finished, error) { return w.tune(in, a.Setting) })
	case ft.SoftReset:
		return w.softReset(a)
	case ft.Rebaseline:
	}
	return outcome{quick, func() (*ft.Finished, error) { return nil, fmt.Errorf("%s: %w", a.Verb, ft.ErrInvalid) }}
}

// start brings up a life, which is listed at once; idempotent by Ref, as drivers are.
func (w *World) start(a ft.Action, takes time.Duration, ref ft.Ref) outcome {
	in := w.find(ref.ID)
	if in == nil || in.Ref != ref || in.Exit != nil {
		work := a.Work
		if in != nil && a.Verb == ft.FullReset {
			work = in.Work
		}
		in = w.begin(ref, work)
		in.starting = true
	}
	return outcome{takes, func() (*ft.Finished, error) {
		in := w.find(ref.ID)
		switch {
		case in == nil || in.Ref != ref || in.Exit != nil:
			return nil, &ft.StartError{Ref: ref, Why: "it ended while it started"}
		case in.starting && w.fails != 0:
			w.fails--
			w.remove(in)
			return nil, &ft.StartError{Ref: ref, Why: w.why, Output: "listening failed: address in use"}
		case in.starting:
			in.starting, in.read, in.Born = false, w.now, w.now.UTC().Round(0)
		}
		v := in.view()
		return &ft.Finished{Instance: &v, Knobs: knobs(in)}, nil
	}}
}

// admit begins slow start: the router gives a returned instance its share little by little.
func (w *World) admit(in *instance, weight float64) {
	if weight == 0 {
		weight = 1
	}
	in.admitted, in.ejected, in.weight, in.back = true, false, weight, w.now
}

// drain takes it out of the router at once; one that hangs never finishes what it has.
func (w *World) drain(a ft.Action) outcome {
	in := w.find(a.Ref.ID)
	if in == nil || in.Generation != a.Ref.Generation {
		return outcome{0, func() (*ft.Finished, error) { return nil, nil }}
	}
	in.admitted = false
	left := a.Deadline.Sub(w.now)
	if (!in.hungAt.IsZero() && in.waiting > 0 || w.c.Drain > left) && in.Exit == nil {
		return outcome{max(left, 0), func() (*ft.Finished, error) {
			return nil, fmt.Errorf("drain %s: %.0f requests in flight: %w", a.Ref, max(in.waiting, 1), ft.ErrDeadline)
		}}
	}
	return outcome{w.c.Drain, func() (*ft.Finished, error) { return nil, nil }}
}

func (w *World) tune(in *instance, s ft.Setting) (*ft.Finished, error) {
	for _, k := range knobs(in) {
		if k.Name != s.Knob {
			continue
		}
		if s.Value < k.Min || s.Value > k.Max {
			return nil, fmt.Errorf("set %s of %s to %g: %w", s.Knob, in.Ref, s.Value, ft.ErrInvalid)
		}
		was := ft.Setting{Knob: s.Knob, Value: k.Value}
		in.settings[s.Knob] = s.Value
		return &ft.Finished{Was: &was}, nil
	}
	return nil, fmt.Errorf("set %s of %s: %w", s.Knob, in.Ref, ft.ErrUnavailable)
}

// softReset reloads: it cures what lies in locks and caches, and keeps memory and descriptors as they are.
func (w *World) softReset(a ft.Action) outcome {
	return outcome{w.c.Soft, func() (*ft.Finished, error) {
		if w.c.NoSoftReset {
			return nil, fmt.Errorf("soft reset: %w", ft.ErrUnavailable)
		}
		in, err := w.life(a.Ref)
		if err != nil {
			return nil, err
		}
		if !in.hungAt.IsZero() {
			return nil, fmt.Errorf("soft reset %s: no answer: %w", a.Ref, ft.ErrDeadline)
		}
		in.fault.slow = 0
		return nil, nil
	}}
}

func failed(err error) *ft.Finished {
	f := &ft.Finished{Err: err.Error()}
	if s, ok := errors.AsType[*ft.StartError](err); ok {
		f.Err, f.Output = s.Ref.String()+" did not start: "+s.Why, s.Output
	}
	return f
}

// knobs are those of a virtual instance; for nil their nature only.
func knobs(in *instance) []ft.Knob {
	ks := []ft.Knob{
		{
			Name: "memory", Unit: "B", Min: 64 << 20, Max: 1 << 30, Step: 1.25, Value: 256 << 20,
			Relieves: []string{ft.DimRefaults, ft.DimMajor, ft.DimPressMem}, Rung: ft.Low, Draws: ft.Memory,
		},
		{
			Name: "cpu", Min: 25, Max: 400, Step: 1.5, Value: 100,
			Relieves: []string{ft.DimRunQueue, ft.DimThrottle, ft.DimPressCPU, ft.DimP99, ft.DimP50}, Rung: ft.Medium, Draws: ft.CPU,
		},
	}
	if in == nil {
		return ks
	}
	for i := range ks {
		if v, ok := in.settings[ks[i].Name]; ok {
			ks[i].Value = v
		}
	}
	return ks
}
