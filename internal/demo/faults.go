package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is one of the faults that the demo plants.
type kind uint8

const (
	loadDoubles kind = iota
	mixChanges
	memoryLeaks
	lockSlows
	hangs
)

// kinds has, for each kind, its name on the command line and in the result, what it is in words, and what is expected.
var kinds = [...]struct{ name, title, expected string }{
	loadDoubles: {"load", "the load doubles for everyone", "workload changed, pool; no instance touched"},
	mixChanges:  {"mix", "one instance gets a new mix of keys and routes", "workload changed, this instance; tuned or re-specialised, not reset"},
	memoryLeaks: {"leak", "memory leak in one instance", "instance changed, memory named, before its limit; soft reset if young, full reset or eviction as that does not cure it"},
	lockSlows:   {"slow-lock", "slow lock in one instance", "instance changed, latency named; cured by the soft reset, state kept"},
	hangs:       {"hang", "one instance stops answering", "out of routing at once; full reset or eviction"},
}

// plan is one fault to plant. All of it is drawn before anything runs, so that a seed plans the same faults however
// the run goes.
type plan struct {
	kind   kind
	gap    time.Duration // quiet time before
	lasts  time.Duration // of load and mix; the others last until they are cured
	victim float64       // 0 to 1: which of the instances in service
	size   float64       // factor of the load, bytes a second of the leak, share of time that the lock is held for nothing
	seed   uint64        // of the new mix
}

// parseFaults takes "all", "none", or names separated by commas.
func parseFaults(s string) ([]kind, error) {
	switch s {
	case "", "all":
		return []kind{loadDoubles, mixChanges, memoryLeaks, lockSlows, hangs}, nil
	case "none":
		return nil, nil
	}
	var out []kind
	for name := range strings.SplitSeq(s, ",") {
		i := slices.IndexFunc(kinds[:], func(k struct{ name, title, expected string }) bool {
			return k.name == strings.TrimSpace(name)
		})
		if i < 0 {
			return nil, fmt.Errorf("%q is no fault: all, none, or some of load, mix, leak, slow-lock, hang", name)
		}
		if !slices.Contains(out, kind(i)) {
			out = append(out, kind(i))
		}
	}
	return out, nil
}

// draw makes the plan for a seed: order, victims, times and sizes. Speed divides times and multiplies the leak's rate.
func draw(seed uint64, ks []kind, speed float64) []plan {
	rnd := rand.New(rand.NewPCG(seed, 0x706c616e))
	between := func(lo, hi float64) float64 { return lo + (hi-lo)*rnd.Float64() }
	span := func(lo, hi float64) time.Duration {
		return time.Duration(between(lo, hi) / speed * float64(time.Second)).Round(time.Millisecond)
	}
	out := make([]plan, 0, len(ks))
	for k := loadDoubles; k <= hangs; k++ {
		p := plan{kind: k, gap: span(8, 14), victim: rnd.Float64(), seed: rnd.Uint64()}
		switch k {
		case loadDoubles:
			p.lasts, p.size = span(50, 60), 2
		case mixChanges:
			p.lasts = span(55, 70)
		case memoryLeaks:
			p.size = between(1.5, 2.5) * (1 << 20) * speed
		case lockSlows:
			p.size = between(0.7, 0.8)
		case hangs:
		}
		if slices.Contains(ks, k) {
			out = append(out, p)
		}
	}
	rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// pick chooses the plan's victim among the instances in service.
func (p plan) pick(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[min(len(ids)-1, int(p.victim*float64(len(ids))))]
}

// planted says in words what was done; hold is how long the slow lock is held at each request.
func (p plan) planted(victim string, hold time.Duration) string {
	switch p.kind {
	case loadDoubles:
		return fmt.Sprintf("the load doubles for everyone, for %.0f s", p.lasts.Seconds())
	case mixChanges:
		return fmt.Sprintf("%s gets a new mix of keys and routes, for %.0f s", victim, p.lasts.Seconds())
	case memoryLeaks:
		return fmt.Sprintf("memory leak in %s, %.1f MiB/s", victim, p.size/(1<<20))
	case lockSlows:
		return fmt.Sprintf("slow lock in %s, held %.1f ms longer at each request", victim, 1e3*hold.Seconds())
	case hangs:
		return fmt.Sprintf("%s stops answering", victim)
	}
	return ""
}
