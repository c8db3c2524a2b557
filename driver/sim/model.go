package sim

import (
	"math"
	"math/rand/v2"
	"slices"

	ft "github.com/fettle-dev/fettle"
)

// A request needs costCPU core seconds and baseP50 seconds; the other constants are of a small web server likewise.
const (
	costCPU    = 0.004
	baseP50    = 0.006
	baseMemory = 30 << 20 // resident before it serves: code
	workingSet = 66 << 20 // anonymous, once warm
	warmUp     = 30.0     // seconds until caches are warm, e-fold
)

// noises are the independent disturbances of an instance: first-order autoregressive, since real telemetry is
// correlated over seconds.
const (
	noiseLoad = iota
	noiseCPU
	noiseLatency
	noiseTail
	noiseMemory
	noiseSystem
	noiseIO
	noises
)

// noiseKeep is how much of a disturbance is left after a second.
const noiseKeep = 0.7

// routes of the usual mix and of "reports", as shares, and how much more a request of the latter costs.
var (
	labels      = []string{"/items", "/search", "/cart", "/reports"}
	usualMix    = []float64{0.60, 0.25, 0.13, 0.02}
	reportsMix  = []float64{0.10, 0.10, 0.05, 0.75}
	reportsCost = 2.2
)

func dimensions() []ft.Dimension {
	rate := func(name, unit string, role ft.Role) ft.Dimension {
		return ft.Dimension{Name: name, Unit: unit, Role: role, Transform: ft.Log1p}
	}
	grows := func(name, unit string, floor float64) ft.Dimension {
		return ft.Dimension{Name: name, Unit: unit, Role: ft.Response, Transform: ft.Log1p, Unbounded: true, Floor: floor}
	}
	return []ft.Dimension{
		rate(ft.DimOffered, "1/s", ft.Load),
		rate(ft.DimBytesIn, "B/s", ft.Intake), rate(ft.DimRequests, "1/s", ft.Intake),
		rate(ft.DimBytesOut, "B/s", ft.Response), rate(ft.DimInFlight, "", ft.Response),
		{Name: ft.DimErrors, Unit: "share", Role: ft.Response, Transform: ft.Logit},
		{Name: ft.DimP50, Unit: "s", Role: ft.Response, Transform: ft.Log1p},
		{Name: ft.DimP99, Unit: "s", Role: ft.Response, Transform: ft.Log1p},
		rate(ft.DimCPU, "cores", ft.Response), rate(ft.DimCPUUser, "cores", ft.Response), rate(ft.DimCPUSys, "cores", ft.Response),
		rate(ft.DimRunQueue, "s/s", ft.Response), rate(ft.DimSwitches, "1/s", ft.Response),
		grows(ft.DimRSS, "B", 0.02), grows(ft.DimAnon, "B", 0.02),
		rate(ft.DimMinor, "1/s", ft.Response), rate(ft.DimWritten, "B/s", ft.Response),
		grows(ft.DimThreads, "", 0.05), grows(ft.DimFDs, "", 0.05),
	}
}

// measure fills a frame.
func (w *World) measure(members []ft.Instance, f *ft.Frame) {
	f.Labels = append(f.Labels[:0], labels...)
	cats := w.schema.Categories()
	for r := range f.Rows {
		in, err := w.life(members[r].Ref)
		if err != nil {
			continue // its row stays missing
		}
		before := slices.Clone(in.counts)
		w.sample(in)
		copy(f.X[r*w.schema.Len():], in.x)
		f.Have[r] = ft.Dims(1)<<w.schema.Len() - 1
		f.Span[r] = in.span
		for c := range before {
			f.Counts[r*cats+c] = uint32(in.counts[c] - before[c])
		}
	}
	f.Demand = w.Demand()
}

// Demand is what is asked of the whole pool now.
func (w *World) Demand() ft.Demand {
	d := ft.Demand{Arrivals: w.arrivals()}
	if w.reachable() == 0 {
		d.Rejected = d.Arrivals
	}
	for _, in := range w.list {
		d.InFlight += in.waiting
	}
	return d
}

// arrivals is the unsteady load: waves of five minutes and of 47 seconds on the constant rate.
func (w *World) arrivals() float64 {
	t := w.now.Sub(w.began).Seconds()
	return w.c.Rate * float64(w.c.Size) * w.factor * (1 + 0.12*math.Sin(2*math.Pi*t/300) + 0.06*math.Sin(2*math.Pi*t/47))
}

// reachable is the sum of the weights that the router divides by.
func (w *World) reachable() (sum float64) {
	for _, in := range w.list {
		sum += w.share(in)
	}
	return sum
}

// share is an instance's present weight, with slow start over five seconds.
func (w *World) share(in *instance) float64 {
	if !in.admitted || in.ejected || in.Exit != nil {
		return 0
	}
	return in.weight * min(1, max(0.1, w.now.Sub(in.back).Seconds()/5))
}

// members counts those that are meant to serve, ill or not: a fair share is a part of them.
func (w *World) members() (n int) {
	for _, in := range w.list {
		if in.admitted {
			n++
		}
	}
	return n
}

// sample takes one reading of an instance since the last one.
func (w *World) sample(in *instance) {
	dt := w.now.Sub(in.read).Seconds()
	in.read, in.span = w.now, float32(dt)
	if dt <= 0 {
		return
	}
	in.disturb(dt)
	offered, given := 0.0, 0.0
	if n := w.members(); n > 0 && in.admitted {
		offered = w.arrivals() / float64(n) * math.Exp(0.03*in.noise[noiseLoad])
	}
	if all := w.reachable(); all > 0 {
		given = offered * w.share(in) / all * float64(max(w.members(), 1))
	}
	mix, cost := usualMix, 1.0
	if w.mixes[in.ID] == "reports" {
		mix, cost = reportsMix, reportsCost
	}
	in.grown += in.fault.leak * dt
	in.fds += in.fault.fdLeak * dt
	w.respond(in, offered, given, cost)
	for i, share := range mix {
		in.counts[i] += poisson(in.rnd, given*dt*share)
	}
	if !in.hungAt.IsZero() {
		in.waiting = min(in.waiting+given*dt, 256)
	}
}

// respond works out what the work costs.
func (w *World) respond(in *instance, offered, given, cost float64) {
	age := w.now.Sub(in.Born).Seconds()
	cold := math.Exp(-age / warmUp)
	n := &in.noise
	cpu := given*costCPU*cost*math.Exp(0.03*n[noiseCPU]) + 0.01
	wait := in.fault.slow.Seconds()
	p50 := (baseP50*cost*(1+0.3*cold)*(1+0.5*cpu) + wait) * math.Exp(0.04*n[noiseLatency])
	if v, ok := in.settings["cpu"]; ok {
		p50 *= math.Pow(100/v, 0.2)
	}
	p99 := (3*p50 + wait) * math.Exp(0.08*n[noiseTail])
	inFlight, out, errs := given*1.3*p50, given*4096*cost*math.Exp(0.02*n[noiseIO]), 0.0
	if !in.hungAt.IsZero() {
		cpu, p50, p99, out = 0.01, math.NaN(), math.NaN(), 0
		inFlight = in.waiting
		errs = math.NaN()
	} else if given == 0 {
		p50, p99, errs = math.NaN(), math.NaN(), math.NaN()
	}
	cpu += in.fault.spin
	anon := workingSet*(1-0.3*cold)*math.Exp(0.01*n[noiseMemory]) + in.grown
	for _, v := range []struct {
		name string
		v    float64
	}{
		{ft.DimOffered, offered},
		{ft.DimRequests, given},
		{ft.DimBytesIn, given * 600 * math.Exp(0.02*n[noiseIO])},
		{ft.DimBytesOut, out},
		{ft.DimInFlight, inFlight},
		{ft.DimErrors, errs},
		{ft.DimP50, p50},
		{ft.DimP99, p99},
		{ft.DimCPU, cpu},
		{ft.DimCPUUser, 0.8 * cpu},
		{ft.DimCPUSys, 0.2 * cpu * math.Exp(0.05*n[noiseSystem])},
		{ft.DimRunQueue, 0.02 * cpu * math.Exp(0.2*n[noiseSystem])},
		{ft.DimSwitches, 20 + given*(4+200*wait)*math.Exp(0.05*n[noiseSystem])},
		{ft.DimRSS, baseMemory + anon},
		{ft.DimAnon, anon},
		{ft.DimMinor, 5 + given*2*math.Exp(0.1*n[noiseMemory]) + in.fault.leak/4096},
		{ft.DimWritten, given * 200 * math.Exp(0.05*n[noiseIO])},
		{ft.DimThreads, 9},
		{ft.DimFDs, 18 + math.Round(inFlight) + math.Round(in.fds)},
	} {
		in.x[w.schema.Index(v.name)] = v.v
	}
}

func (in *instance) disturb(dt float64) {
	keep := math.Pow(noiseKeep, dt)
	for i := range in.noise {
		in.noise[i] = keep*in.noise[i] + math.Sqrt(1-keep*keep)*in.rnd.NormFloat64()
	}
}

// poisson draws a count: exactly for small means (Knuth), by the normal approximation above.
func poisson(r *rand.Rand, mean float64) uint64 {
	if mean > 30 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p, limit := uint64(0), r.Float64(), math.Exp(-mean)
	for p > limit {
		n++
		p *= r.Float64()
	}
	return n
}
