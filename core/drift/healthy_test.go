package drift_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
)

const (
	mib    = 1 << 20
	minute = 60.0 // all times of a service are in seconds
	hour   = 60 * minute
	day    = 24 * hour
)

// service is a pool of web workers over hours and days: requests whose costs have a heavy tail, latency that queues, memory
// at which collectors of two generations saw, counters in their grains, disturbances that last for minutes and that members share
// in part. Rows may stand any time apart. Zero fields are what most services are like.
type service struct {
	every  float64                        // seconds between rows
	rate   float64                        // requests/s of a member, the mean of a day
	season float64                        // share by which the load swings over the day
	young  float64                        // bytes between two small collections
	ripe   float64                        // garbage that the large collection waits for, a share of the live heap
	jobs   bool                           // for 90 s of each hour members have a job beside, and more is asked of them
	leader bool                           // the first one alone has it
	fill   float64                        // seconds in which caches fill, by e
	leak   func(i int, t float64) float64 // bytes/s
	slow   func(i int, t float64) float64 // costs and latency times 1 + so much

	rnd    *rand.Rand
	t      float64 // since midnight
	w      []worker
	common [2]float64 // disturbances: of load, of latency
	frame  ft.Frame
}

// worker is one member.
type worker struct {
	born                     float64
	generation, group        uint32
	size                     float64 // of its heap, beside that of the others
	nursery, garbage, leaked float64 // bytes
	sessions                 float64 // requests/s, as a mean of half an hour
	resident, log, threads   float64
	own                      [3]float64 // disturbances: of balancing, CPU, latency
}

// begin makes the service, its members as old as they are told.
func (s *service) begin(n int, seed uint64, age float64) *service {
	dim := func(name, unit string, role ft.Role) ft.Dimension {
		return ft.Dimension{Name: name, Unit: unit, Role: role, Transform: ft.Log1p}
	}
	grows := func(name, unit string) ft.Dimension {
		d := dim(name, unit, ft.Response)
		d.Unbounded = true
		return d
	}
	schema, err := ft.NewSchema([]ft.Dimension{
		dim(ft.DimOffered, "1/s", ft.Load), dim(ft.DimRequests, "1/s", ft.Intake), dim(ft.DimBytesIn, "B/s", ft.Intake),
		dim(ft.DimBytesOut, "B/s", ft.Response), dim(ft.DimInFlight, "", ft.Response),
		{Name: ft.DimErrors, Unit: "share", Role: ft.Response, Transform: ft.Logit},
		dim(ft.DimP50, "s", ft.Response), dim(ft.DimP99, "s", ft.Response),
		dim(ft.DimCPU, "cores", ft.Response), dim(ft.DimSwitches, "1/s", ft.Response), dim(ft.DimRunQueue, "s/s", ft.Response),
		grows(ft.DimRSS, "B"), grows(ft.DimAnon, "B"), dim(ft.DimMinor, "1/s", ft.Response),
		dim(ft.DimWritten, "B/s", ft.Response), grows(ft.DimThreads, ""), grows(ft.DimFDs, ""),
	}, ft.CategorySet{Name: ft.SetRoutes, Role: ft.Load, Size: len(routeShares), Labels: []string{"/items", "/search", "/cart", "/admin"}})
	if err != nil {
		panic(err)
	}
	s.rnd = rand.New(rand.NewPCG(seed, 5))
	s.every, s.rate, s.young = cmp.Or(s.every, 1), cmp.Or(s.rate, 40), cmp.Or(s.young, 24*mib)
	s.ripe, s.fill = cmp.Or(s.ripe, 0.25), cmp.Or(s.fill, 5*minute)
	s.t = day * s.rnd.Float64()
	s.w = make([]worker, n)
	for i := range s.w {
		s.born(i, 1)
		s.w[i].born -= age
		s.frame.Rows = append(s.frame.Rows, ft.Row{Slot: ft.Slot(i), Serving: true})
	}
	s.frame.Schema = schema
	return s
}

var routeShares = []float64{0.55, 0.30, 0.13, 0.02}

// born begins a new life of member i.
func (s *service) born(i int, group uint32) {
	s.w[i] = worker{
		born: s.t, generation: s.w[i].generation + 1, group: group, size: math.Exp(0.1 * s.rnd.NormFloat64()), sessions: s.load(), threads: 12,
	}
	for k := range s.w[i].own {
		s.w[i].own[k] = s.rnd.NormFloat64()
	}
	s.w[i].nursery, s.w[i].garbage = s.rnd.Float64(), s.rnd.Float64()
}

// load is what is asked of each member now, requests/s: most in the evening, least before dawn.
func (s *service) load() float64 {
	l := s.rate * (1 + s.season*(0.8*math.Sin(2*math.Pi*(s.t/day-0.5))+0.2*math.Sin(4*math.Pi*(s.t/day-0.1)))) * math.Exp(0.08*s.common[0])
	if s.jobs {
		l *= 1 + 0.4*math.Exp(-math.Mod(s.t, hour)/(2*minute)) // clients have their crontabs, too
	}
	return l
}

// next is the frame one interval later.
func (s *service) next() *ft.Frame {
	s.t += s.every
	for k := range s.common {
		s.disturb(&s.common[k], [...]float64{5 * minute, 2 * minute}[k])
	}
	f := &s.frame
	f.At = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(s.t * 1e9))
	f.Reset(len(s.w))
	for i := range s.w {
		w := &s.w[i]
		r := &f.Rows[i]
		r.Life, r.Group, r.Age = ft.Life(uint64(i+1)<<32|uint64(w.generation)), w.group, float32(s.t-w.born)
		f.Have[i], f.Span[i] = 1<<f.Schema.Len()-1, float32(s.every)
		for k := range w.own {
			s.disturb(&w.own[k], [...]float64{30, minute, 90}[k])
		}
		s.serve(i)
	}
	return f
}

// disturb moves a first-order autoregressive disturbance of scale 1 that is forgotten by e in keep seconds.
func (s *service) disturb(x *float64, keep float64) {
	a := math.Exp(-s.every / keep)
	*x = a**x + math.Sqrt(1-a*a)*s.rnd.NormFloat64()
}

// noise is lognormal, of mean 1.
func (s *service) noise(sd float64) float64 { return math.Exp(sd*s.rnd.NormFloat64() - sd*sd/2) }

func (s *service) poisson(mean float64) float64 {
	if mean > 40 {
		return math.Max(0, math.Round(mean+math.Sqrt(mean)*s.rnd.NormFloat64()))
	}
	n := 0.0
	for p, e := s.rnd.Float64(), math.Exp(-mean); p > e; n++ {
		p *= s.rnd.Float64()
	}
	return n
}

// serve fills row i: what was asked of the member in the interval, and what that cost.
func (s *service) serve(i int) {
	w, f, cats := &s.w[i], &s.frame, len(routeShares)
	offered := s.load()
	given, n := offered*math.Exp(0.03*w.own[0]), 0.0
	for k, share := range routeShares {
		c := s.poisson(given * s.every * share)
		f.Counts[i*cats+k] = uint32(c)
		n += c
	}
	age, slower := s.t-w.born, 1.0
	if s.slow != nil {
		slower += s.slow(i, s.t)
	}
	cold := math.Exp(-age / minute) // compilation
	// One request in a thousand costs dozens of others, by Pareto's law.
	cost := 0.006 * slower * (1 + 0.8*cold) * (n*s.noise(1/math.Sqrt(1+n)) + 20*s.pareto(s.poisson(n/1000)))
	since := math.Mod(s.t-7*float64(i)+hour, hour)
	job := s.jobs && since < 90+s.every && (i == 0 || !s.leader)
	busy, written := 0.0, 0.0
	if job {
		part := math.Min(1, math.Min(since, 90+s.every-since)/s.every) // of the interval
		busy, written = part*0.5*s.noise(0.1), part*8*mib*s.noise(0.3)
	}
	major, pages := s.collect(w, n*30e3*s.noise(0.1), age, i)
	cpu := cost/s.every*math.Exp(0.03*w.own[1]) + busy + 0.4*major/s.every + 0.005
	rho := math.Min(0.95, cpu/2)
	calm := math.Exp(0.05*w.own[2] + 0.04*s.common[1])
	p50 := 0.009 * slower * (1 + cold) * (1 + 0.6*rho/(1-rho)) * calm * s.noise(0.6/math.Sqrt(1+n))
	p99 := p50 * 5 * s.noise(0.9/math.Sqrt(1+n/30)) * (1 + 0.5*busy)
	if s.rnd.Float64() < math.Min(0.3, n*2e-4) { // a request that another one blocks
		p99 *= 1 + s.pareto(1)/math.Sqrt(1+n/300)
	}
	p99 += 0.15 * major / (1 + n/100)
	flight := given * p50 * 1.4
	w.threads += math.Exp(-1) * math.Min(1, s.every/(5*minute)) * (12 + 3*flight - w.threads) // idle ones end after a while
	w.log += n * 180
	flushed := math.Floor(w.log/4096) * 4096
	w.log -= flushed
	ticks := math.Floor((cpu*s.every+0.01*s.rnd.Float64())*100) / 100
	copy(f.X[i*f.Schema.Len():], []float64{ // in the order of the schema
		offered, n / s.every, n / s.every * 700 * s.noise(0.8/math.Sqrt(1+n)),
		n / s.every * 6000 * s.noise(1.2/math.Sqrt(1+n)), flight * s.noise(0.1),
		s.poisson(n*4e-4) / math.Max(1, n), p50, p99,
		ticks / s.every, (30 + 9*n/s.every + 400*busy) * s.noise(0.05), 0.01 * rho * s.noise(0.4),
		w.resident + 22*mib, w.resident, 3 + pages/s.every + 20*cold,
		flushed/s.every + written, math.Round(w.threads), 30 + s.poisson(flight) + 2*f64(job),
	})
}

// collect lets the heap grow by what was allocated: the small collection throws most of it away and lets the rest grow old, the
// large one, which major tells the number of, frees that. Pages are those that were touched anew.
func (s *service) collect(w *worker, allocated, age float64, i int) (major, pages float64) {
	keep := math.Exp(-s.every / (30 * minute))
	w.sessions = keep*w.sessions + (1-keep)*s.load()
	heap := mib * w.size * (60 + 60*(1-math.Exp(-age/s.fill)) + 0.6*w.sessions)
	if age == 0 || w.nursery < 1 {
		w.nursery, w.garbage = w.nursery*s.young, w.garbage*s.ripe*heap // shares until the first row
	}
	if s.leak != nil {
		w.leaked += s.every * s.leak(i, s.t)
	}
	w.nursery += allocated
	w.garbage += 0.03 * allocated
	w.nursery = math.Mod(w.nursery, s.young)
	if w.garbage > s.ripe*heap {
		w.garbage, major = 0.02*heap, 1
	}
	used := heap + w.leaked + w.nursery + w.garbage
	was := w.resident
	w.resident = math.Round(math.Max(used, was+(used-was)*(1-math.Exp(-s.every/10)))/4096) * 4096
	return major, math.Max(0, w.resident-was)/4096 + 0.02*allocated/4096
}

// pareto sums up n values of Pareto's law with exponent 1.7, beyond 1 and below 200.
func (s *service) pareto(n float64) (sum float64) {
	for range int(n) {
		sum += math.Min(200, math.Pow(1-s.rnd.Float64(), -1/1.7))
	}
	return sum
}

func f64(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// watching is a judge at a service.
type watching struct {
	s     *service
	judge *drift.Judge
	level map[int]ft.Level // by slot; -1 is the pool
	buf   []ft.Verdict

	days    float64        // of members, since it counts
	runs    int            // of alarm: instances' and the pool's
	highest ft.Level       // of any
	story   []string       // of verdicts from Low on
	ill     map[int][]told // verdicts on a slot that it is ill itself
}

// told is a verdict.
type told struct {
	t    float64
	v    ft.Verdict
	text string
}

func watch(t *testing.T, s *service) *watching {
	t.Helper()
	j, err := drift.New(s.frame.Schema, drift.Config{Interval: time.Duration(s.every * 1e9)})
	if err != nil {
		t.Fatal(err)
	}
	return &watching{s: s, judge: j, level: map[int]ft.Level{}, ill: map[int][]told{}}
}

// run goes on for so many seconds. Only where counted, what is told counts.
func (w *watching) run(seconds float64, counted bool) {
	for range int(seconds / w.s.every) {
		w.buf = w.judge.Observe(w.buf[:0], w.s.next())
		for k := range w.buf {
			v := &w.buf[k]
			slot := int(v.Slot)
			if v.Pool {
				slot = -1
			}
			begins := v.Level >= ft.Low && w.level[slot] < ft.Low
			w.level[slot] = v.Level
			if !counted || v.Level < ft.Low {
				continue
			}
			name := "web"
			if slot >= 0 {
				name = fmt.Sprintf("web-%d", slot)
			}
			text, _, _ := drift.Explain(w.s.frame.Schema, w.s.frame.Labels, name, v)
			text = fmt.Sprintf("day %.2f: %s", w.s.t/day, text)
			if begins {
				w.runs++
			}
			if w.highest = max(w.highest, v.Level); begins || v.Level >= ft.High {
				w.story = append(w.story, text)
			}
			if v.Cause != ft.WorkloadChanged && v.Extent != ft.WholePool {
				w.ill[slot] = append(w.ill[slot], told{w.s.t, *v, text})
			}
		}
		if counted {
			w.days += float64(len(w.s.w)) * w.s.every / day
		}
	}
}

// add sums up what several judges told.
func (w *watching) add(o *watching) {
	w.days, w.runs, w.highest, w.story = w.days+o.days, w.runs+o.runs, max(w.highest, o.highest), append(w.story, o.story...)
}

func (w *watching) told() string {
	const most = 25
	text := strings.Join(w.story[:min(most, len(w.story))], "\n\t")
	if len(w.story) > most {
		text += fmt.Sprintf("\n\tand %d more", len(w.story)-most)
	}
	return text
}

// healthy is something that healthy services do.
type healthy struct {
	name  string
	s     service
	n     int
	seeds uint64
	run   func(w *watching)
}

// counted runs for so many seconds of which the first do not count.
func counted(without, with float64) func(w *watching) {
	return func(w *watching) {
		w.run(without, false)
		w.run(with, true)
	}
}

// deploys is four times a new life for one member after the other, of the same image or of another one.
func deploys(known, between float64, sameImage bool) func(w *watching) {
	return func(w *watching) {
		w.run(known, false)
		for k := range uint32(4) {
			for i := range w.s.w {
				w.s.born(i, 1+(k+1)*uint32(f64(!sameImage)))
				w.run(2*minute, true)
			}
			w.run(between, true)
		}
	}
}

// judge counts alarms over all seeds: no more than the stated one per instance-day, beyond what chance explains in 99 of 100 such
// counts, and none that would have an instance reset.
func (h healthy) judge(t *testing.T) {
	all := &watching{}
	for seed := range h.seeds {
		s := h.s
		age := 3 * day
		if strings.HasPrefix(h.name, "cold start") {
			age = 0
		}
		w := watch(t, s.begin(h.n, seed, age))
		h.run(w)
		all.add(w)
	}
	most := all.days + 2.33*math.Sqrt(all.days)
	t.Logf("%d alarms in %.1f instance-days, %.1f may be; the highest is %s", all.runs, all.days, most, all.highest)
	if float64(all.runs) > most || all.highest >= ft.High {
		t.Errorf("%d alarms in %.1f instance-days, %.1f may be, none of level high:\n\t%s", all.runs, all.days, most, all.told())
	}
}

// TestHealthyDays: what healthy services do from day to day gives no more alarms than are stated. Rows stand 1 s apart where
// things take minutes: all lives begin there. Where they take hours and days, a day of 86,400 rows of each member is beyond what
// a test can afford, so rows stand 10 s or minutes apart. The judge's spans are multiples of the interval: a job of 90 s is nine
// rows or two to it there, and a day 8,640 or 1,440.
func TestHealthyDays(t *testing.T) {
	for _, h := range []healthy{
		// Large collections every quarter of an hour, by each member in its own time.
		{"garbage collection", service{ripe: 0.1}, 3, 2, counted(0, day/6)},
		// All begin at once and cold, while the judge knows nothing yet.
		{"cold start", service{}, 4, 4, counted(0, hour)},
		{"cold start, alone", service{}, 1, 8, counted(0, hour)},
		{"cold start, slow to fill", service{every: 10, fill: 2 * hour}, 4, 2, counted(0, day)},
		{"restarts", service{}, 3, 2, deploys(hour/2, hour/2, true)},
		// A new image is learnt anew while its instances warm up.
		{"deploys", service{}, 3, 2, deploys(hour/2, hour/2, false)},
		{"daily deploys", service{every: 60, season: 0.5}, 4, 2, deploys(day, day, false)},
		// What comes each hour is known after a day of it.
		{"hourly jobs, alone", service{every: 10, jobs: true}, 1, 2, counted(day, 2*day)},
		{"hourly jobs, coarse", service{every: 60, jobs: true}, 4, 2, counted(day, 4*day)},
		// What comes each day is known after two of them.
		{"daily season, alone", service{every: 60, season: 0.6}, 1, 3, counted(2*day, 8*day)},
		{"daily season", service{every: 60, season: 0.6}, 4, 2, counted(2*day, 6*day)},
		{"daily season, coarse", service{every: 300, season: 0.6}, 4, 3, counted(2*day, 12*day)},
	} {
		t.Run(h.name, h.judge)
	}
}

// TestLeak: what takes days to fill the memory is found while that is far, against waves of the heap of fifteen percent. Rows stand
// minutes apart: a day of seconds is beyond a test, and what grows by so little shows over days at whatever interval.
func TestLeak(t *testing.T) {
	for seed := range uint64(2) {
		leak(t, 0.3, 5*minute, 1, seed)
		leak(t, 0.1, 5*minute, 3, seed)
		leak(t, 0.1, 5*minute, 8, seed)
	}
}

// TestLeakOfOnePercentADay: it is found within twelve days, against waves of the heap that are ten times what it takes in a day.
func TestLeakOfOnePercentADay(t *testing.T) {
	for _, n := range []int{1, 3, 8} {
		leak(t, 0.01, minute, n, uint64(n))
	}
}

// leak is of one member, which loses a share of its heap a day.
func leak(t *testing.T, share, every float64, n int, seed uint64) {
	s := &service{every: every, season: 0.4, ripe: 0.15}
	s.leak = func(i int, _ float64) float64 { return share * 150 * mib / day * f64(i == 0) }
	w := watch(t, s.begin(n, seed, 3*day))
	w.run(2*day, false)
	w.run(10*day, true)
	w.found(t, fmt.Sprintf("%g %% a day, %d members, rows %g s apart, seed %d", 100*share, n, every, seed), "memory")
}

// found tells whether the first member was called ill itself, for something that has this name.
func (w *watching) found(t *testing.T, what, name string) {
	t.Helper()
	at := slices.IndexFunc(w.ill[0], func(v told) bool { return strings.Contains(v.text, name) })
	if at < 0 {
		t.Errorf("%s: not found:\n\t%s", what, w.told())
		return
	}
	t.Logf("%s: %s", what, w.ill[0][at].text)
}

// TestSickFromBirth: where no peer can tell, what never was healthy is found by what earlier lives of the same image were like.
func TestSickFromBirth(t *testing.T) {
	for seed := range uint64(4) {
		s := &service{}
		w := watch(t, s.begin(1, seed, 0))
		w.run(hour/2, false)
		s.born(0, 1)
		s.slow = func(int, float64) float64 { return 1.5 }
		w.run(hour/4, true)
		w.found(t, fmt.Sprintf("seed %d", seed), "latency")
	}
}
