package telemetry

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
)

// bursts counts system calls for short times. While one runs, each system call on the machine takes longer, so bursts are
// kept so far apart that a program which does nothing but the cheapest system call loses no more of its speed, on the
// whole, than the budget: in each burst it is measured how much that program loses, in the burst's own conditions.
type bursts struct {
	p    *Probes
	wake chan struct{}
	seq  atomic.Uint64 // odd while a burst runs

	mu      sync.Mutex
	users   int           // readers
	budget  float64       // the least of those that were asked for
	length  time.Duration // the longest
	loss    float64       // share of its speed that the program loses in a burst, smoothed; 0 before the first
	next    time.Time     // when the budget allows one more
	period  time.Duration // the last one
	asked   bool          // somebody waits for one
	ended   chan struct{} // closed at the end of the next burst
	err     error         // of the last burst
	counted time.Duration // all bursts together
	joined  bool          // the daemon is a member of its own slot
}

const (
	// defaultBudget and defaultLength serve those who ask where the pool does not say, as [ft.Syscalls] has them.
	defaultBudget = 0.03
	defaultLength = 200 * time.Millisecond
	// firstLoss is what a burst is taken to cost before it was measured, and leastLoss what it costs at least: nobody
	// measures better than that on a busy machine.
	firstLoss = 0.6
	leastLoss = 0.1
)

func newBursts(p *Probes) *bursts {
	return &bursts{p: p, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// apart is how far the begins of two bursts must lie apart so that the loss of speed stays within the budget.
func apart(length time.Duration, loss, budget float64) time.Duration {
	return max(time.Duration(float64(length)*loss/budget), 2*length)
}

// join registers a reader with the settings of its pool. With several pools bursts are as long as the longest and cost no
// more than the least budget.
func (b *bursts) join(c ft.Syscalls) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users++; b.users == 1 {
		b.budget, b.length = c.Budget, c.Burst.D()
	}
	b.budget, b.length = min(b.budget, c.Budget), max(b.length, c.Burst.D())
	b.ring()
}

func (b *bursts) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users--
}

func (b *bursts) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run makes the bursts until the probes end.
func (b *bursts) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(b.due(time.Now()))
		select {
		case <-b.p.end:
			return
		case <-b.wake:
			continue
		case <-timer.C:
		}
		if b.due(time.Now()) <= 0 {
			b.burst()
		}
	}
}

// due is the time until the next burst. Who waits for one gets it a period early: the one after it is the later.
func (b *bursts) due(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.asked:
		return b.next.Add(-b.period).Sub(now)
	case b.users > 0:
		return b.next.Sub(now)
	default:
		return time.Hour
	}
}

// burst counts once.
func (b *bursts) burst() {
	b.mu.Lock()
	length, budget := b.length, b.budget
	if b.users == 0 {
		length, budget = defaultLength, defaultBudget
	}
	if b.asked { // what is told of is of so long at least
		length = max(length, defaultLength)
	}
	b.asked = false
	b.mu.Unlock()
	from := time.Now()
	took, loss, err := b.count(length)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	if err == nil {
		b.counted += took
		if b.loss == 0 {
			b.loss = loss
		}
		b.loss += (loss - b.loss) / 4
	}
	b.period = apart(max(took, length), max(b.loss, loss), budget)
	jitter := 1 + (rand.Float64()-0.5)/5 // else it beats with what the application does at intervals
	b.next = later(b.next, from).Add(time.Duration(float64(b.period) * jitter))
	close(b.ended)
	b.ended = make(chan struct{})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// count attaches the program for the given time. took is how long it really was attached; loss is the share of its speed
// that a program which only asks for its parent's number lost meanwhile.
func (b *bursts) count(length time.Duration) (took time.Duration, loss float64, err error) {
	if err := b.enroll(); err != nil {
		return 0, firstLoss, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	free := perCall()
	b.seq.Add(1)
	defer b.seq.Add(1)
	from := time.Now()
	stop, err := b.p.set.CountCalls()
	if err != nil {
		return 0, firstLoss, err
	}
	loaded := perCall()
	select {
	case <-time.After(length - time.Since(from)):
	case <-b.p.end:
	}
	err = stop()
	if free > 0 && loaded > free {
		loss = 1 - free/loaded
	}
	return time.Since(from), max(loss, leastLoss), err
}

// enroll makes the daemon a member of the loader's slot, so that what it measures on itself is what a member pays.
func (b *bursts) enroll() error {
	if b.joined {
		return nil
	}
	m := bpf.Member{Slot: 0, Serial: math.MaxUint32}
	if _, err := b.p.set.Claim(m.Slot, m.Serial); err != nil {
		return err
	}
	if _, err := b.p.set.ClaimCalls(m.Slot, m.Serial); err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("open the own process: %w", err)
	}
	defer unix.Close(fd)
	if err := b.p.set.Join(fd, m); err != nil {
		return err
	}
	b.joined = true
	return nil
}

// perCall is the time that one cheap system call takes, in ns: the least of some batches, since others interrupt.
func perCall() float64 {
	const batches, calls = 20, 100
	best := math.Inf(1)
	for range batches {
		from := time.Now()
		for range calls {
			_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		best = min(best, float64(time.Since(from).Nanoseconds())/calls)
	}
	return best
}

// wait returns at the end of a burst that began after it was called.
func (b *bursts) wait(ctx context.Context) error {
	b.mu.Lock()
	ended := b.ended
	running := b.seq.Load()%2 == 1
	b.asked = true
	b.mu.Unlock()
	b.ring()
	for again := running; ; again = false {
		select {
		case <-ended:
		case <-b.p.end:
			return fmt.Errorf("count system calls: the eBPF programs were unloaded: %w", ft.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("count system calls: %w", ctx.Err())
		}
		b.mu.Lock()
		err := b.err
		ended = b.ended
		b.mu.Unlock()
		if !again {
			return err
		}
	}
}

// total is how long all bursts together were.
func (b *bursts) total() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counted
}
