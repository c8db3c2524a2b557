package drift

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// rich is what a world has beyond the base columns: calls to others, network, working sets that are measured now and
// then, an application's own numbers, answers and system calls by kind. It draws from a source of its own, so that a
// rich world has the same base columns as a plain one.
type rich struct {
	rnd     *rand.Rand
	delay   float64 // of the others, shared by all who call them
	members []richMember
	narrow  func(i int) ft.Dims // columns that member i cannot be measured by
}

type richMember struct {
	calls, taken, failed float64 // of this second: calls, seconds each, share
	held                 map[string]float64
	set                  float64 // working set
	sessions             float64
}

const (
	statusAt, syscallAt = 32, 37 // where their counts begin
	syscallKinds        = 12
	burstEvery          = 10
)

func richSchema() *ft.Schema {
	base := poolSchema(true)
	var dims []ft.Dimension
	for i := range base.Len() {
		dims = append(dims, base.At(i))
	}
	resp := func(unit string, every time.Duration, names ...string) {
		for _, n := range names {
			tr := ft.Log1p
			if unit == "share" {
				tr = ft.Logit
			}
			if n == ft.DimWSSGrow {
				tr = ft.Identity
			}
			grows := n == ft.DimWSS || n == "app_sessions"
			dims = append(dims, ft.Dimension{Name: n, Unit: unit, Role: ft.Response, Transform: tr, Every: every, Unbounded: grows})
		}
	}
	resp("1/s", 0, ft.DimCalls, ft.DimMsgsOut, ft.DimMsgsIn, ft.DimAccepts, ft.DimConnects, ft.DimResent)
	resp("s", 0, ft.DimCallTime)
	resp("share", 0, ft.DimCallFail)
	resp("B/s", 0, ft.DimNetOut, ft.DimNetIn)
	resp("cores", 0, ft.DimTopTask)
	resp("B", 30*time.Second, ft.DimWSS)
	resp("B/s", 30*time.Second, ft.DimWSSGrow)
	resp("share", 30*time.Second, ft.DimWSSTurn, ft.DimWrites)
	resp("", 5*time.Second, "app_queue", "app_sessions", "app_workers", "app_version", "app_shards")
	resp("1/s", 5*time.Second, "app_hits", "app_misses", "app_retries", "app_timeouts", "app_jobs")
	resp("s", 5*time.Second, "app_pause")
	s, err := ft.NewSchema(dims, ft.CategorySet{Name: ft.SetRoutes, Role: ft.Load, Size: statusAt},
		ft.CategorySet{Name: ft.SetStatus, Role: ft.Response, Size: syscallAt - statusAt, Labels: []string{"1xx", "2xx", "3xx", "4xx", "5xx"}},
		ft.CategorySet{Name: ft.SetSyscalls, Role: ft.Response, Size: syscallKinds, Labels: []string{"read", "write", "wait", "lock"}, Every: burstEvery * time.Second})
	if err != nil {
		panic(err)
	}
	return s
}

func newRich(n int, seed uint64) *world {
	w := newWorld(n, seed)
	w.schema = richSchema()
	w.frame.Schema = w.schema
	w.rich = &rich{rnd: rand.New(rand.NewPCG(seed, 99)), members: make([]richMember, n)}
	for i := range n {
		w.rich.members[i] = richMember{held: map[string]float64{}, set: (20 + 4*w.rich.rnd.Float64()) * mebi, sessions: 200}
	}
	return w
}

// base leaves the rich world as it is, but measures only the base columns and routes.
func (w *world) base() *world {
	w.schema = poolSchema(true)
	w.frame.Schema = w.schema
	return w
}

func (x *rich) noise(sd float64) float64 { return math.Exp(sd * x.rnd.NormFloat64()) }

func (x *rich) poisson(l float64) float64 {
	return math.Max(0, math.Round(l+math.Sqrt(l)*x.rnd.NormFloat64()))
}

func (x *rich) faults(w *world, i int) (f fault) {
	for k := range w.faults {
		if g := &w.faults[k]; g.hits(i, w.t) {
			f.call, f.refuse, f.missing, f.storm, f.touch = f.call+g.call, f.refuse+g.refuse, f.missing+g.missing, f.storm+g.storm, f.touch+g.touch
			f.cold, f.spin = f.cold+g.cold, f.spin+g.spin
		}
	}
	return f
}

// call lets the requests call others: the heavier routes do. It gives the seconds that this takes in all, and the share
// of requests that fail of it.
func (x *rich) call(w *world, i int, served *[routeKinds]float64) (wait, failed float64) {
	m, f := &x.members[i], x.faults(w, i)
	if i == 0 {
		x.delay = 0.8*x.delay + 0.12*x.rnd.NormFloat64()
	}
	calls, n := served[1]+2*served[3]+3*served[4], 0.0
	for _, c := range served {
		n += c
	}
	m.calls = calls
	m.taken = 0.003*math.Exp(x.delay)*x.noise(0.1+0.3/math.Sqrt(1+calls)) + f.call*x.noise(0.05)
	m.failed = 0
	if calls > 0 {
		m.failed = x.poisson(calls*(0.0004+f.refuse)) / calls
	}
	return calls * m.taken, math.Min(1, m.failed) * calls / math.Max(n, 1)
}

// row fills what a plain world does not have.
func (x *rich) row(w *world, i int, served *[routeKinds]float64, errs, cpu float64) {
	m, f := &x.members[i], x.faults(w, i)
	n := 0.0
	for _, c := range served {
		n += c
	}
	w.set(i, ft.DimCalls, m.calls)
	if m.calls > 0 {
		w.set(i, ft.DimCallTime, m.taken)
		w.set(i, ft.DimCallFail, math.Min(1, m.failed))
	}
	w.set(i, ft.DimMsgsOut, (2*n+2*m.calls)*x.noise(0.03))
	w.set(i, ft.DimMsgsIn, (2*n+3*m.calls)*x.noise(0.03))
	w.set(i, ft.DimAccepts, x.poisson(0.1*n))
	w.set(i, ft.DimConnects, x.poisson(0.02*m.calls))
	w.set(i, ft.DimResent, b2f(x.rnd.Float64() < 0.02)*x.poisson(4))
	w.set(i, ft.DimNetOut, (2500*n+300*m.calls)*x.noise(0.3))
	w.set(i, ft.DimNetIn, (600*n+4000*m.calls)*x.noise(0.3))
	w.set(i, ft.DimTopTask, cpu*(0.6+0.3*x.rnd.Float64()))
	x.slow(w, i, n, &f)
	x.sets(w, i, served, errs, &f)
	if x.narrow != nil {
		lacks := x.narrow(i)
		all := ft.Dims(1)<<uint(w.schema.Len()) - 1
		w.frame.Have[i] = all &^ lacks
	}
}

// slow fills what is measured now and then and held in between; each eighth working set is late.
func (x *rich) slow(w *world, i int, n float64, f *fault) {
	m := &x.members[i]
	hold := func(every, shift int, name string, v func() float64) {
		if at := w.t + 3*i + shift; at%every == 0 && (every < 30 || at/every%8 != 0) {
			m.held[name] = v()
		}
		if v, ok := m.held[name]; ok {
			w.set(i, name, v)
		}
	}
	was := m.set
	hold(30, 0, ft.DimWSS, func() float64 {
		m.set = (22*mebi + f.touch + 0.1*mebi*n) * x.noise(0.08)
		return m.set
	})
	hold(30, 0, ft.DimWSSGrow, func() float64 { return (m.set - was) / 30 })
	hold(30, 0, ft.DimWSSTurn, func() float64 { return math.Min(1, 0.2*x.noise(0.3)) })
	hold(30, 0, ft.DimWrites, func() float64 { return math.Min(1, 0.1*x.noise(0.2)) })
	hold(5, 1, "app_queue", func() float64 { return math.Floor(3 * x.rnd.ExpFloat64()) })
	hold(5, 1, "app_sessions", func() float64 {
		m.sessions += 0.02*(200+n-m.sessions) + 2*x.rnd.NormFloat64()
		return math.Round(m.sessions)
	})
	hold(5, 1, "app_workers", func() float64 { return 8 })
	hold(5, 1, "app_version", func() float64 { return 3 })
	hold(5, 1, "app_shards", func() float64 { return 16 + b2f(x.rnd.Float64() < 0.01) })
	hold(5, 1, "app_hits", func() float64 { return 5 * n * x.noise(0.1) })
	hold(5, 1, "app_misses", func() float64 { return 0.2 * n * x.noise(0.4) * (1 + 3*f.cold) })
	hold(5, 1, "app_retries", func() float64 { return b2f(x.rnd.Float64() < 0.03) * x.poisson(3) })
	hold(5, 1, "app_timeouts", func() float64 { return 0 })
	hold(5, 1, "app_jobs", func() float64 { return b2f(w.t/60%5 == 0) * x.poisson(20) })
	hold(5, 1, "app_pause", func() float64 { return 0.004 * x.noise(0.8) })
}

func (x *rich) sets(w *world, i int, served *[routeKinds]float64, errs float64, f *fault) {
	counts := make([]uint32, syscallAt+syscallKinds)
	defer func() { // a narrow schema has no place for them
		own := w.frame.Counts[i*w.schema.Categories() : (i+1)*w.schema.Categories()]
		copy(counts, own[:statusAt])
		copy(own, counts)
	}()
	for k, c := range served {
		for range int(c) {
			status := 1
			switch u := x.rnd.Float64(); {
			case u < errs:
				status = 4
			case u < errs+0.01+f.missing:
				status = 3
			case k == 3 && u < 0.3, u > 0.97:
				status = 2
			}
			counts[statusAt+status]++
		}
	}
	if (w.t+i)%burstEvery != 0 {
		return
	}
	mood := x.noise(0.15)
	for k := range syscallKinds {
		rate := 2.0
		for r, c := range served {
			rate += c * float64(1+(k*7+r*3)%5) / float64(1+k)
		}
		if k == 3 {
			rate *= (1 + f.storm) * mood
		}
		if k == 4 {
			rate *= 1 + 4*f.cold
		}
		counts[syscallAt+k] = uint32(x.poisson(rate * 2 * x.noise(0.05)))
	}
}

// after is what was told from a row on.
func after(vs []seen, row int) []seen {
	for len(vs) > 0 && vs[0].row < row {
		vs = vs[1:]
	}
	return vs
}

func where(n int, seed uint64) string { return fmt.Sprintf("n=%d seed=%d", n, seed) }
