package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// slow is a source each of whose readings takes so long.
type slow struct {
	*fake
	takes time.Duration
}

type slowReader struct {
	ft.Reader
	s *slow
}

func (s *slow) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	r, u, err := s.fake.Attach(in)
	return &slowReader{r, s}, u, err
}

func (r *slowReader) Read(now time.Time, row []float64, counts []uint64) error {
	time.Sleep(r.s.takes)
	return r.Reader.Read(now, row, counts)
}

// measured are the instances that have a value in the last frame, and how long the frame took.
func (b *bench) measured() (who []string, took time.Duration) {
	b.t.Helper()
	from := time.Now()
	b.step(time.Second)
	took = time.Since(from) - time.Second
	for i := range b.in {
		if b.row(i) == "g=1" {
			who = append(who, string(b.in[i].ID))
		}
	}
	return who, took
}

// TestManyBlockAtOnce: a dead file server, say. The tick comes within a second, those behind are read meanwhile or in one
// of the next, and each is told about.
func TestManyBlockAtOnce(t *testing.T) {
	for _, c := range []struct{ block, rounds int }{{10, 1}, {30, 3}, {100, 8}} {
		t.Run(fmt.Sprint(c.block), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				let := make(chan struct{})
				src := &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}, block: map[ft.InstanceID]chan struct{}{}}
				b := newBench(t, c.block+2, src)
				b.step(time.Second)
				src.mu.Lock()
				for i := range c.block {
					src.block[b.in[i].ID] = let
				}
				src.mu.Unlock()
				last := b.in[c.block+1].Ref
				for round := 1; round <= c.rounds; round++ {
					who, took := b.measured()
					if took > roundPatience+leastPatience {
						t.Errorf("round %d took %s", round, took)
					}
					if isLast := round == c.rounds; isLast != (len(who) == 2) {
						t.Errorf("round %d measured %v; the other two are to be measured in round %d", round, who, c.rounds)
					}
					want := passedOver
					if round == c.rounds {
						want = ""
					}
					if why := b.s.Unavailable(last)["g"]; why != want {
						t.Errorf("round %d: the last is not measured because %q, want %q", round, why, want)
					}
				}
				if why := b.s.Unavailable(b.in[0].Ref)["g"]; why != errBlocks.Error() {
					t.Errorf("the first is not measured because %q", why)
				}
				if who, took := b.measured(); took > 0 || len(who) != 2 {
					t.Errorf("known to block, they kept the others %v waiting for %s", who, took)
				}
				if n := strings.Count(b.w.String(), "a round of readings was cut short"); n != min(c.rounds-1, 1) {
					t.Errorf("told %d times that a round was cut short", n)
				}
				close(let)
				synctest.Wait()
				src.mu.Lock()
				src.block = nil
				src.mu.Unlock()
				if who, _ := b.measured(); len(who) != len(b.in) {
					t.Errorf("let go, %d of %d are measured", len(who), len(b.in))
				}
				if why := b.s.Unavailable(b.in[0].Ref); len(why) != 0 {
					t.Errorf("let go, the first is not measured because %v", why)
				}
			})
		})
	}
}

// TestAllAreSlow: no reading blocks, and together they take longer than a round may. All get their turns.
func TestAllAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &slow{fake: &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}}, takes: 150 * time.Millisecond}
		b := newBench(t, 20, src)
		got := map[string]int{}
		for range 20 {
			who, took := b.measured()
			if took > roundPatience {
				t.Errorf("a round took %s", took)
			}
			for _, w := range who {
				got[w]++
			}
		}
		var least []int
		for _, in := range b.in {
			least = append(least, got[string(in.ID)])
		}
		if slices.Min(least) < 4 {
			t.Errorf("of 20 rounds the instances were measured in %v", least)
		}
	})
}
