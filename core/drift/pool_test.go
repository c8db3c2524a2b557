package drift

import (
	"math"
	"math/rand/v2"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// A synthetic pool, as far from kind as a real one: routes with costs of their own, latency that queues, a
// garbage-collected heap, offered load that is balanced by latency, noise that members share and noise that they do
// not, seconds without requests and seconds in which the machine stood still.

const mebi = 1 << 20

type route struct {
	share, cost, base float64 // of requests; seconds of CPU; seconds of waiting
	in, out, alloc    float64 // bytes
}

const routeKinds = 6

var usualRoutes = [routeKinds]route{
	{0.45, 0.0015, 0.002, 300, 2000, 20e3},
	{0.25, 0.0030, 0.004, 400, 9000, 60e3},
	{0.15, 0.0008, 0.001, 200, 500, 5e3},
	{0.10, 0.0080, 0.010, 6000, 800, 200e3},
	{0.04, 0.0200, 0.015, 500, 60000, 900e3},
	{0.01, 0.0020, 0.030, 40000, 300, 100e3},
}

// fault is what is planted: it acts on the victim from row at on, all members where victim is -1.
type fault struct {
	at, victim int
	until      int       // 0: for ever
	leak       float64   // bytes a second
	lock       float64   // seconds more for each request
	spin       float64   // cores
	fds        float64   // a second
	errors     float64   // share
	cold       float64   // cost and latency times 1 + so much, and reads from disk
	load       float64   // offered load times 1 + so much
	mix        []float64 // shares of the routes instead
	call       float64   // seconds more for each call to others, in a rich world
	refuse     float64   // share of calls to others that fail
	missing    float64   // share of requests answered with 404 instead
	storm      float64   // system calls of one kind times 1 + so much
	touch      float64   // bytes more in the working set
}

func (f *fault) hits(i, t int) bool {
	return (f.victim < 0 || f.victim == i) && t >= f.at && (f.until == 0 || t < f.until)
}

type member struct {
	born         int // row
	heap, leaked float64
	live         float64
	fds, latency float64
	threads      float64
	logged       float64
	size         float64 // of this instance, beside the others
	rss          float64
	generation   uint32
}

type world struct {
	rnd        *rand.Rand
	n          int
	fill, more float64 // seconds in which caches fill, MiB more than usual that they hold
	rate       float64 // requests a second and member
	wave       float64
	period     float64
	phase      float64
	t          int
	common     float64
	drift      float64
	hiccup     int
	idle       bool
	bursts     bool // of a few seconds
	burst      int
	heavy      float64 // the fourth route costs so many times more than usual; 0: as usual
	calm       bool    // neither hiccups nor idle seconds nor pauses
	faults     []fault
	members    []member
	schema     *ft.Schema
	frame      ft.Frame
	start      time.Time
	serve      bool
	held       func(i int) bool
	rich       *rich // more columns and sets
}

func poolSchema(serve bool) *ft.Schema {
	resp := func(name, unit string, unbounded bool) ft.Dimension {
		return ft.Dimension{Name: name, Unit: unit, Role: ft.Response, Transform: ft.Log1p, Unbounded: unbounded}
	}
	share := func(name string) ft.Dimension {
		return ft.Dimension{Name: name, Unit: "share", Role: ft.Response, Transform: ft.Logit}
	}
	var dims []ft.Dimension
	cats := 0
	if serve {
		cats = 32
		dims = append(dims,
			ft.Dimension{Name: ft.DimOffered, Unit: "1/s", Role: ft.Load, Transform: ft.Log1p},
			ft.Dimension{Name: ft.DimRequests, Unit: "1/s", Role: ft.Intake, Transform: ft.Log1p},
			ft.Dimension{Name: ft.DimBytesIn, Unit: "B/s", Role: ft.Intake, Transform: ft.Log1p},
			resp(ft.DimBytesOut, "B/s", false), resp(ft.DimInFlight, "", false), share(ft.DimErrors),
			resp(ft.DimP50, "s", false), resp(ft.DimP99, "s", false))
	}
	mem := func(name string) ft.Dimension { d := resp(name, "B", true); d.Floor = 0.005; return d }
	dims = append(dims, resp(ft.DimCPU, "cores", false), resp(ft.DimCPUUser, "cores", false), resp(ft.DimCPUSys, "cores", false),
		resp(ft.DimRunQueue, "s/s", false), resp(ft.DimSwitches, "1/s", false), mem(ft.DimRSS), mem(ft.DimAnon),
		resp(ft.DimMinor, "1/s", false), resp(ft.DimMajor, "1/s", false), resp(ft.DimRefaults, "1/s", false),
		resp(ft.DimRead, "B/s", false), resp(ft.DimWritten, "B/s", false), resp(ft.DimThreads, "", true),
		resp(ft.DimFDs, "", true), share(ft.DimThrottle), share(ft.DimPressMem), share(ft.DimPressCPU))
	s, err := ft.NewSchema(dims, routes(cats)...)
	if err != nil {
		panic(err)
	}
	return s
}

func routes(n int) []ft.CategorySet {
	if n == 0 {
		return nil
	}
	return []ft.CategorySet{{Name: ft.SetRoutes, Role: ft.Load, Size: n}}
}

func newWorld(n int, seed uint64) *world {
	w := &world{
		rnd: rand.New(rand.NewPCG(seed, 77)), n: n, rate: 50, wave: 0.3, period: 600, schema: poolSchema(true), serve: true,
		start: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	w.phase = w.rnd.Float64() * 2 * math.Pi
	w.period = []float64{45, 97, 600, 1800}[seed%4]
	w.bursts = seed%2 == 0
	for i := range n {
		w.members = append(w.members, w.fresh(i))
	}
	w.frame.Schema = w.schema
	w.frame.Labels = []string{"GET /a", "GET /b", "GET /c", "POST /d", "GET /e", "POST /f"}
	return w
}

func (w *world) fresh(int) member {
	return member{born: w.t, latency: 0.004, fds: 14, threads: 9, size: math.Exp(0.1 * w.rnd.NormFloat64()), generation: 1}
}

func (w *world) poisson(l float64) float64 {
	if l > 40 {
		return math.Max(0, math.Round(l+math.Sqrt(l)*w.rnd.NormFloat64()))
	}
	k, p, e := 0, 1.0, math.Exp(-l)
	for {
		p *= w.rnd.Float64()
		if p <= e {
			return float64(k)
		}
		k++
	}
}

func (w *world) noise(sd float64) float64 { return math.Exp(sd * w.rnd.NormFloat64()) }

// next is the frame of the next second.
func (w *world) next() *ft.Frame {
	w.t++
	f := &w.frame
	f.At = w.start.Add(time.Duration(w.t) * time.Second)
	f.Rows = f.Rows[:0]
	for i := range w.members {
		m := &w.members[i]
		f.Rows = append(f.Rows, ft.Row{
			Slot: ft.Slot(i), Life: ft.Life(uint64(i+1)<<32 | uint64(m.generation)), Group: 1, Serving: true,
			Age: float32(w.t - m.born), Held: w.held != nil && w.held(i),
		})
	}
	f.Reset(w.n)
	w.common = 0.9*w.common + 0.03*w.rnd.NormFloat64()
	w.drift = 0.995*w.drift + 0.008*w.rnd.NormFloat64()
	w.hiccup--
	w.idle = false
	if !w.calm {
		if w.hiccup < -60 && w.rnd.Float64() < 1./400 {
			w.hiccup = 1 + w.rnd.IntN(2)
		}
		w.idle = w.rnd.Float64() < 1./400
	}
	w.burst--
	if w.bursts && w.burst < 0 && w.rnd.Float64() < 1./15 {
		w.burst = 1 + w.rnd.IntN(3)
	}
	total := 0.0
	lambda := w.rate * (1 + w.wave*math.Sin(2*math.Pi*float64(w.t)/w.period+w.phase)) * math.Exp(w.drift)
	if w.burst > 0 {
		lambda *= 1.5
	}
	for range w.n {
		total += lambda
	}
	for k := range w.faults {
		if ft := &w.faults[k]; ft.load != 0 && ft.victim < 0 && ft.hits(0, w.t) {
			total *= 1 + ft.load
		}
	}
	if w.idle {
		total = 0
	}
	total = w.poisson(total)
	weights := 0.0
	for i := range w.members {
		weights += 1 / (w.members[i].latency + 0.002)
	}
	for i := range w.members {
		w.row(i, total/float64(w.n), total*(1/(w.members[i].latency+0.002))/weights)
	}
	return f
}

func (w *world) set(i int, name string, v float64) {
	if c := w.schema.Index(name); c >= 0 {
		w.frame.X[i*w.schema.Len()+c] = v
	}
}

func (w *world) row(i int, offered, given float64) {
	m, rnd := &w.members[i], w.rnd
	var leak, lock, spin, fds, errs, cold float64
	mix := make([]float64, len(usualRoutes))
	for k, r := range usualRoutes {
		mix[k] = r.share
	}
	for k := range w.faults {
		f := &w.faults[k]
		if !f.hits(i, w.t) {
			continue
		}
		leak, lock, spin, fds, errs, cold = leak+f.leak, lock+f.lock, spin+f.spin, fds+f.fds, errs+f.errors, cold+f.cold
		if f.mix != nil {
			copy(mix, f.mix)
		}
	}
	age := float64(w.t - m.born)
	warm := math.Exp(-age / 12) // caches, compilation
	stall := w.hiccup >= 1 && !w.calm
	if stall {
		given *= 0.3 + 0.3*rnd.Float64()
	}
	var n, work, wait, in, out, alloc float64
	var served [routeKinds]float64
	for k, r := range usualRoutes {
		c := w.poisson(given * mix[k])
		served[k] = c
		if cats := w.schema.Categories(); cats > 0 {
			w.frame.Counts[i*cats+k] = uint32(c) // routes are the first set
		}
		if k == 3 && w.heavy > 0 {
			r.cost, r.base, r.alloc = r.cost*w.heavy, r.base*w.heavy, r.alloc*w.heavy
		}
		n += c
		work += c * r.cost * w.noise(0.3/math.Sqrt(1+c)) * (1 + cold + 1.5*warm)
		wait += c * r.base * (1 + cold)
		in += c * r.in * w.noise(0.4/math.Sqrt(1+c))
		out += c * r.out * w.noise(0.4/math.Sqrt(1+c))
		alloc += c * r.alloc
	}
	if w.rich != nil {
		more, failed := w.rich.call(w, i, &served)
		wait += more
		errs += failed
	}
	cpu := (work*math.Exp(w.common) + 0.004 + 0.003*rnd.Float64()) * w.noise(0.04)
	busy := math.Min(cpu/1.2+spin*0.3, 0.93)
	per := 0.004
	if n > 0 {
		per = (wait/n + (work/n)/(1-busy)*1.0) * math.Exp(1.5*w.common) * w.noise(0.06)
	}
	m.latency = 0.5*m.latency + 0.5*(per+lock)
	p50, p99 := per*0.8+lock, (per*4+lock)*w.noise(0.25)
	if rnd.Float64() < 0.04 {
		p99 *= 1 + 3*rnd.ExpFloat64()
	}
	if stall {
		p50, p99 = p50*(2+10*rnd.Float64()), p99+0.3+0.5*rnd.Float64()
		cpu *= 0.4
	}
	user := cpu*0.75*w.noise(0.05) + spin*w.noise(0.02)
	sys := cpu * 0.25 * w.noise(0.1)
	w.memory(m, alloc, leak, age)
	m.fds += fds
	if rnd.Float64() < 1./3000 {
		m.threads++
	}
	m.logged += n * 110
	written := 0.0
	if w.t%5 == i%5 {
		written, m.logged = math.Floor(m.logged/4096)*4096, 0
	}
	w.set(i, ft.DimOffered, offered)
	w.set(i, ft.DimRequests, n)
	w.set(i, ft.DimBytesIn, in)
	w.set(i, ft.DimBytesOut, out)
	if n > 0 {
		w.set(i, ft.DimP50, p50)
		w.set(i, ft.DimP99, p99)
		e := w.poisson(n*(errs+0.0003)) / n
		w.set(i, ft.DimErrors, math.Min(1, e))
	}
	flight := n * (per + lock)
	w.set(i, ft.DimInFlight, flight*w.noise(0.1))
	w.set(i, ft.DimCPU, user+sys)
	w.set(i, ft.DimCPUUser, math.Floor(user*100)/100)
	w.set(i, ft.DimCPUSys, math.Floor(sys*100)/100)
	queue := 0.002 * (1 + 20*busy*busy) * math.Exp(3*w.common) * w.noise(0.4)
	if stall {
		queue += 0.5
	}
	w.set(i, ft.DimRunQueue, queue+0.2*spin)
	w.set(i, ft.DimSwitches, (40+7*n)*w.noise(0.08))
	w.set(i, ft.DimMinor, w.poisson(15+n*1.5+leak/4096+400*warm))
	w.set(i, ft.DimMajor, b2f(rnd.Float64() < 0.01)*w.poisson(3))
	w.set(i, ft.DimRefaults, b2f(rnd.Float64() < 0.01)*w.poisson(10))
	w.set(i, ft.DimRead, b2f(rnd.Float64() < 0.02)*4096*float64(1+rnd.IntN(30))+cold*3e6*w.noise(0.3))
	w.set(i, ft.DimWritten, written)
	w.set(i, ft.DimThreads, m.threads)
	w.set(i, ft.DimFDs, math.Round(m.fds+w.poisson(flight)))
	w.set(i, ft.DimThrottle, 0)
	w.set(i, ft.DimPressMem, 0)
	w.set(i, ft.DimPressCPU, math.Min(1, queue*0.6))
	if w.rich != nil {
		w.rich.row(w, i, &served, errs+0.0003, user+sys)
	}
}

// memory lets garbage grow until it is collected, and the live heap fill in the first minutes.
func (w *world) memory(m *member, alloc, leak, age float64) {
	m.leaked += leak
	fill := 90.0
	if w.fill > 0 {
		fill = w.fill
	}
	m.live = (24 + (22+w.more)*(1-math.Exp(-age/fill))) * mebi * m.size
	m.heap += alloc
	if m.heap > (m.live+m.leaked)*0.5 {
		m.heap = 0.05 * m.live
	}
	anon := m.live + m.leaked + m.heap
	m.rss = math.Max(anon, m.rss+0.15*(anon-m.rss))
	i := -1
	for k := range w.members {
		if &w.members[k] == m {
			i = k
		}
	}
	w.set(i, ft.DimAnon, math.Round(anon/4096)*4096)
	w.set(i, ft.DimRSS, math.Round((m.rss+9*mebi)/4096)*4096)
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
