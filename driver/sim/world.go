// Package sim is a virtual pool: instances that start, serve, drift, fail and are healed without a process and
// without a clock. [World] is moved from outside and is what scenario scripts and simulations run on; [Driver] wraps
// it in real sleeping, for the engine's own goroutines under testing/synctest.
//
// Everything follows from the seed: the same calls give the same frames and events.
package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Config is the nature of a world; zero fields take the defaults named here.
type Config struct {
	Seed  uint64
	Rate  float64       // requests/s for each instance that the pool was meant to have; 40
	Size  int           // for how many instances the rate is meant; the pool's minimum
	Start time.Duration // from Start to passing the startup probe; 2s
	Drain time.Duration // until what is in flight has finished; 300ms
	Reset time.Duration // of a full reset; 3s
	Soft  time.Duration // of a soft reset; 500ms
	// NoSoftReset: the pool declares no way to soft reset.
	NoSoftReset bool
}

// World is all instances of one pool and the load on them. It is not safe for concurrent use.
type World struct {
	c      Config
	pool   ft.Pool
	schema *ft.Schema
	now    time.Time
	began  time.Time
	due    agenda
	seq    uint64 // breaks ties of the agenda
	events []ft.Event
	list   []*instance // by serial
	factor float64     // of the load
	mixes  map[ft.InstanceID]string
	epoch  int    // outcomes of actions from an earlier one are told to nobody
	fails  int    // how many starts are still to fail; below 0 all
	why    string // they fail
	pid    int
}

// New makes an empty world for a pool whose defaults are filled.
func New(pool ft.Pool, c Config) (*World, error) {
	schema, err := ft.NewSchema(dimensions(), categories()...)
	if err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	def(&c.Rate, 40)
	def(&c.Size, max(pool.Size.Min, 1))
	def(&c.Start, 2*time.Second)
	def(&c.Drain, 300*time.Millisecond)
	def(&c.Reset, 3*time.Second)
	def(&c.Soft, 500*time.Millisecond)
	return &World{c: c, pool: pool, schema: schema, factor: 1, mixes: map[ft.InstanceID]string{}, pid: 1000}, nil
}

func def[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Schema is that of the world's frames.
func (w *World) Schema() *ft.Schema { return w.schema }

// Configure changes the pool that new instances are made for.
func (w *World) Configure(pool ft.Pool) { w.pool = pool }

// Orphan ends the brain that asked for what is under way: it happens, but nobody is told.
func (w *World) Orphan() { w.epoch++ }

// instance is one virtual process.
type instance struct {
	ft.Instance
	starting bool // listed, and not through its startup probe
	admitted bool
	weight   float64
	ejected  bool // the router gives it nothing
	back     time.Time
	fault    fault
	hungAt   time.Time // zero unless it hangs
	grown    float64   // bytes that a leak has taken
	fds      float64   // descriptors that a leak has taken
	waiting  float64   // requests that wait in it while it hangs
	settings map[string]float64
	noise    [noises]float64
	rnd      *rand.Rand
	read     time.Time // last measured
	counts   []uint64  // cumulative
	x        []float64 // as last measured
	span     float32
}

// agenda is a heap of what happens when.
type agenda []entry

type entry struct {
	at  time.Time
	seq uint64
	f   func()
}

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push is for container/heap.
func (a *agenda) Push(x any) { *a = append(*a, x.(entry)) }

// Pop is for container/heap.
func (a *agenda) Pop() any {
	old := *a
	e := old[len(old)-1]
	*a = old[:len(old)-1]
	return e
}

func (w *World) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.due, entry{w.now.Add(d), w.seq, f})
}

// Next is when something will happen by itself.
func (w *World) Next() (at time.Time, ok bool) {
	if len(w.due) == 0 {
		return time.Time{}, false
	}
	return w.due[0].at, true
}

// Advance moves the world to now and appends what happened. A frame, if given, has its Rows set and was reset;
// members[i] is the instance of its row i. It is then filled as of now.
func (w *World) Advance(now time.Time, members []ft.Instance, f *ft.Frame, es []ft.Event) []ft.Event {
	w.moveTo(now)
	if f != nil {
		w.measure(members, f)
	}
	es = append(es, w.events...)
	w.events = w.events[:0]
	return es
}

func (w *World) moveTo(now time.Time) {
	if w.began.IsZero() {
		w.began, w.now = now, now
	}
	for len(w.due) > 0 && !w.due[0].at.After(now) {
		e := heap.Pop(&w.due).(entry)
		w.now = e.at
		e.f()
	}
	w.now = now
}

func (w *World) stamp() ft.Stamp { return ft.Stamp{At: w.now.UTC().Round(0)} }

func (w *World) say(e ft.Event) { w.events = append(w.events, e) }

// find is the instance of an ID, nil if there is none.
func (w *World) find(id ft.InstanceID) *instance {
	i := slices.IndexFunc(w.list, func(in *instance) bool { return in.ID == id })
	if i < 0 {
		return nil
	}
	return w.list[i]
}

// life is the instance of a Ref that runs.
func (w *World) life(ref ft.Ref) (*instance, error) {
	in := w.find(ref.ID)
	switch {
	case in == nil || in.Exit != nil:
		return nil, fmt.Errorf("%s: %w", ref, ft.ErrNotFound)
	case in.Generation != ref.Generation:
		return nil, fmt.Errorf("%s, its generation is %d: %w", ref, in.Generation, ft.ErrStale)
	}
	return in, nil
}

// List is what exists, as drivers tell it.
func (w *World) List() []ft.Instance {
	ins := make([]ft.Instance, len(w.list))
	for i, in := range w.list {
		ins[i] = in.view()
	}
	return ins
}

func (in *instance) view() ft.Instance {
	v := in.Instance
	v.Settings = nil
	for _, k := range knobs(nil) {
		if x, ok := in.settings[k.Name]; ok {
			v.Settings = append(v.Settings, ft.Setting{Knob: k.Name, Value: x})
		}
	}
	return v
}

// begin makes the next life of an instance.
func (w *World) begin(ref ft.Ref, work ft.Work) *instance {
	in := w.find(ref.ID)
	if in == nil {
		in = &instance{}
		at, _ := slices.BinarySearchFunc(w.list, ref.ID.Serial(), func(o *instance, s uint32) int { return int(o.ID.Serial()) - int(s) })
		w.list = slices.Insert(w.list, at, in)
	}
	w.pid++
	h := fnv.New64a()
	fmt.Fprint(h, ref.ID, ref.Generation)
	*in = instance{
		Instance: ft.Instance{
			Ref: ref, Work: work, Digest: "sim", Born: w.now.UTC().Round(0),
			Endpoint: ft.Endpoint{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", 10000+w.pid)},
			Scope:    ft.Scope{PID: w.pid},
		},
		weight: 1, read: w.now, settings: map[string]float64{},
		counts: make([]uint64, w.schema.Categories()), x: make([]float64, w.schema.Len()),
		rnd: rand.New(rand.NewPCG(w.c.Seed, h.Sum64())),
	}
	if w.pool.Serve == ft.None {
		in.Endpoint = ft.Endpoint{}
	}
	for i := range in.x {
		in.x[i] = math.NaN()
	}
	for i := range in.noise {
		in.noise[i] = in.rnd.NormFloat64()
	}
	return in
}

func (w *World) remove(in *instance) {
	if i := slices.Index(w.list, in); i >= 0 {
		w.list = slices.Delete(w.list, i, i+1)
	}
}

// exit ends an instance by itself.
func (w *World) exit(in *instance, e ft.Exit) {
	e.At = w.now.UTC().Round(0)
	in.Exit = &e
	in.admitted = false
	w.say(&ft.Exited{Stamp: w.stamp(), Ref: in.Ref, Exit: e})
}

func categories() []ft.CategorySet {
	return []ft.CategorySet{{Name: ft.SetRoutes, Role: ft.Load, Size: len(labels), Labels: labels}}
}
