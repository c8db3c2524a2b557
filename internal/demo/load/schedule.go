// Package load drives the demo's pool as its users would and keeps the books: an open loop, whose arrivals do not wait
// for answers, and a ledger of what became of every request.
package load

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/fettle-dev/fettle/internal/demo/app"
)

// Route is a kind of request.
type Route uint8

// The routes.
const (
	Item   Route = iota // GET /item/{key}
	Note                // POST /item/{key}
	Search              // GET /search?q=
	Report              // GET /report/{key}
)

// Request is one arrival.
type Request struct {
	At    time.Duration // since the start
	Route Route
	Key   string // the item; the word of a Search
}

// Shares of the routes in the usual mix.
const (
	noteShare   = 0.15
	searchShare = 0.13
	reportShare = 0.10
	coldShare   = 0.10 // of the keyed requests: for the items that are asked for rarely
)

// hotItems are asked for by a Zipf law; the others, equally, by the cold share.
const hotItems = app.Items / 2

// Schedule is the arrival process: Poisson arrivals whose rate swings slowly by a quarter and rises by half in bursts
// of one to three seconds, about four a minute. The same seed and the same calls give the same arrivals.
type Schedule struct {
	rnd     *rand.Rand
	zipf    *rand.Zipf
	rate    float64 // mean requests a second, without bursts
	factor  float64
	now     float64 // seconds
	phase   float64
	burstAt float64 // seconds at which the next or present burst begins
	burstTo float64
}

// NewSchedule makes one with a mean rate in requests a second.
func NewSchedule(seed uint64, rate float64) *Schedule {
	rnd := rand.New(rand.NewPCG(seed, 0x6c6f6164))
	s := &Schedule{rnd: rnd, zipf: rand.NewZipf(rnd, 1.2, 20, hotItems-1), rate: rate, factor: 1, phase: rnd.Float64()}
	s.nextBurst()
	return s
}

// Scale multiplies the rate from now on; 1 is the usual one.
func (s *Schedule) Scale(factor float64) { s.factor = factor }

// Rate is the present rate in requests a second.
func (s *Schedule) Rate() float64 {
	const wave, swing, burst = 45, 0.25, 1.5
	r := s.rate * s.factor * (1 + swing*math.Sin(2*math.Pi*(s.now/wave+s.phase)))
	if s.now >= s.burstAt {
		r *= burst
	}
	return r
}

// Next is the next arrival. The rate hardly changes between two arrivals, so each gap is drawn from the present one.
func (s *Schedule) Next() Request {
	s.now += s.rnd.ExpFloat64() / s.Rate()
	if s.now >= s.burstTo {
		s.nextBurst()
	}
	r := Request{At: time.Duration(s.now * float64(time.Second))}
	switch u := s.rnd.Float64(); {
	case u < noteShare:
		r.Route = Note
	case u < noteShare+searchShare:
		r.Route = Search
		r.Key = app.Word(s.rnd.IntN(64))
		return r
	case u < noteShare+searchShare+reportShare:
		r.Route = Report
	}
	if s.rnd.Float64() < coldShare {
		r.Key = app.Key(hotItems + s.rnd.IntN(app.Items-hotItems))
	} else {
		r.Key = app.Key(int(s.zipf.Uint64()))
	}
	return r
}

func (s *Schedule) nextBurst() {
	const every = 15 // seconds, mean
	s.burstAt = s.now + s.rnd.ExpFloat64()*every
	s.burstTo = s.burstAt + 1 + 2*s.rnd.Float64()
}

// Cold tells whether an item is one of those that are asked for rarely.
func Cold(key string) bool { return key >= app.Key(hotItems) }
