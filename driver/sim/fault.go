package sim

import (
	"fmt"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// fault is what is wrong with one life.
type fault struct {
	leak   float64       // bytes/s never given back
	fdLeak float64       // descriptors/s
	slow   time.Duration // that each request waits for a lock
	spin   float64       // cores burnt for nothing
}

// unresponsiveAfter is how long the router sees no answer before it ejects an instance, and says so.
const unresponsiveAfter = 3 * time.Second

// Load multiplies what is asked of the pool, compared with its beginning.
func (w *World) Load(factor float64) { w.factor = factor }

// Mix sends another mix of requests to one instance, as when a tenant moves to it: "reports" are few and heavy. It
// is a property of the load, so it outlives a reset. "usual" ends it.
func (w *World) Mix(id ft.InstanceID, mix string) error {
	switch mix {
	case "usual":
		delete(w.mixes, id)
	case "reports":
		w.mixes[id] = mix
	default:
		return fmt.Errorf("mix %q: %w", mix, ft.ErrInvalid)
	}
	return nil
}

// Leak makes an instance keep so many bytes each second.
func (w *World) Leak(id ft.InstanceID, bytes float64) error {
	return w.plant(id, func(in *instance) { in.fault.leak = bytes })
}

// LeakDescriptors makes an instance keep so many descriptors open each second.
func (w *World) LeakDescriptors(id ft.InstanceID, n float64) error {
	return w.plant(id, func(in *instance) { in.fault.fdLeak = n })
}

// Slow makes every request of an instance wait for a lock.
func (w *World) Slow(id ft.InstanceID, d time.Duration) error {
	return w.plant(id, func(in *instance) { in.fault.slow = d })
}

// Spin makes an instance burn so many cores for nothing.
func (w *World) Spin(id ft.InstanceID, cores float64) error {
	return w.plant(id, func(in *instance) { in.fault.spin = cores })
}

// Hang makes an instance answer nothing any more. Some time later the router ejects it and says so.
func (w *World) Hang(id ft.InstanceID) error {
	return w.plant(id, func(in *instance) {
		in.hungAt = w.now
		ref := in.Ref
		w.after(unresponsiveAfter, func() {
			if o := w.find(id); o == nil || o.Ref != ref || o.Exit != nil || o.hungAt.IsZero() {
				return
			}
			in.ejected = true
			w.say(&ft.Unresponsive{
				Stamp: w.stamp(), Ref: ref, Probe: "readiness", Silent: ft.Duration(w.now.Sub(in.hungAt)), Detail: "no answer within 2s",
			})
		})
	})
}

// Wake ends a hang.
func (w *World) Wake(id ft.InstanceID) error {
	return w.plant(id, func(in *instance) {
		in.hungAt, in.waiting = time.Time{}, 0
		if in.ejected {
			in.ejected, in.back = false, w.now
			w.say(&ft.Responsive{Stamp: w.stamp(), Ref: in.Ref})
		}
	})
}

// Crash ends an instance by itself.
func (w *World) Crash(id ft.InstanceID) error {
	return w.plant(id, func(in *instance) {
		w.exit(in, ft.Exit{Code: 1, Known: true, LastOutput: "panic: planted"})
	})
}

// FailStarts makes the next n starts fail; below 0 all, 0 ends it.
func (w *World) FailStarts(n int, why string) { w.fails, w.why = n, why }

func (w *World) plant(id ft.InstanceID, f func(*instance)) error {
	in := w.find(id)
	if in == nil || in.Exit != nil {
		return fmt.Errorf("instance %s: %w", id, ft.ErrNotFound)
	}
	f(in)
	return nil
}
