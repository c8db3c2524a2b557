package telemetry

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry/internal/bpf"
)

// Probes are the eBPF programs of a daemon: one set of them serves all its pools and samplers. [Probes.Network] and
// [Probes.Syscalls] are sources over them; [Probes.Destinations] and [Probes.CallsNow] answer questions about one
// instance. A process counts for one instance, by the same rules as for [ProcFS], of all pools. Safe for concurrent use; on a nil
// *Probes, or one that [OpenProbes] gave with an error, the sources fall back to what /proc tells and say why.
type Probes struct {
	log  *slog.Logger
	set  *bpf.Set // nil where there is no eBPF
	why  string
	past time.Duration // between two looks at the destinations

	census census
	dead   atomic.Bool // Close was called
	wake   chan struct{}
	end    chan struct{}
	all    sync.WaitGroup
	bursts *bursts
	hooks  hooks

	grouping sync.Mutex     // held while control groups are looked at
	grouped  map[int]*claim // who was in whose at the last look; guarded by grouping

	mu     sync.Mutex
	slots  map[uint32]*slot
	leads  map[lead]*slot
	refs   map[ft.Ref]*slot
	free   []freed
	next   uint32 // the first slot that was never used
	serial uint32
}

// slot is one instance's counters.
type slot struct {
	lead
	bpf.Member
	data  *bpf.Slot
	claim *claim
	born  time.Time
	users int
	named map[ft.Ref]int // users by the name that they gave

	calls *bpf.Calls // nil until somebody asks; guarded by Probes.mu
	past  *past      // nil until it called somebody; guarded by Probes.mu
}

// freed is a slot that may be used again once no program can be in it any more.
type freed struct {
	number uint32
	at     time.Time
}

const (
	// rest is how long a slot is left alone after its release; programs run for microseconds.
	rest = time.Second
	// pastEvery is the time between two looks at the destinations.
	pastEvery = 10 * time.Second
)

// OpenProbes loads the programs and attaches those that run all the time. The error, which is [ft.ErrUnavailable], says in
// plain words why this machine does not allow it; the Probes are then usable all the same, and hand that reason on.
// Programs that this kernel lacks alone make their columns unavailable. All ends with Close, or with the process.
func OpenProbes(log *slog.Logger) (*Probes, error) { return openProbes(log, pastEvery) }

func openProbes(log *slog.Logger, past time.Duration) (*Probes, error) {
	p := &Probes{log: log, past: past}
	set, err := bpf.Open()
	if err != nil {
		p.why = "eBPF: " + err.Error()
		return p, fmt.Errorf("load eBPF programs: %w: %w", err, ft.ErrUnavailable)
	}
	for _, name := range []bpf.Program{bpf.Sent, bpf.Received, bpf.Forked, bpf.State, bpf.Tallied, bpf.Passed} {
		if why := set.Missing(name); why != "" {
			p.why = "eBPF: " + why
			return p, errors.Join(fmt.Errorf("load eBPF programs: %s: %w", why, ft.ErrUnavailable), set.Close())
		}
	}
	p.set = set
	p.slots, p.leads, p.refs = map[uint32]*slot{}, map[lead]*slot{}, map[ft.Ref]*slot{}
	p.wake, p.end = make(chan struct{}, 1), make(chan struct{})
	p.next = 1 // slot 0 is the daemon's own, see loader of bursts
	p.bursts = newBursts(p)
	p.hooks.init(log, set)
	p.census = census{load: closed, proc: closed}
	if err := p.census.join(); err != nil {
		return p.refuse(err, set)
	}
	p.all.Go(p.keep)
	p.all.Go(p.bursts.run)
	p.all.Go(p.hooks.wait)
	return p, nil
}

func (p *Probes) refuse(err error, set *bpf.Set) (*Probes, error) {
	p.set, p.why = nil, "eBPF: "+err.Error()
	return p, errors.Join(fmt.Errorf("%w: %w", err, ft.ErrUnavailable), set.Close())
}

// usable says why the programs are not there; empty where they are.
func (p *Probes) usable() string {
	switch {
	case p == nil:
		return "eBPF: not available; fettle doctor says why"
	case p.set == nil:
		return p.why
	case p.dead.Load():
		return "eBPF: the programs were unloaded"
	default:
		return ""
	}
}

// Close unloads the programs. Readers that are still open read nothing any more.
func (p *Probes) Close() error {
	if p == nil || p.set == nil || p.dead.Swap(true) {
		return nil
	}
	close(p.end)
	err := p.set.Stop()
	p.all.Wait()
	p.census.leave()
	err = errors.Join(err, p.set.Detach())
	p.mu.Lock()
	idle := len(p.slots) == 0
	p.mu.Unlock()
	if idle {
		err = errors.Join(err, p.set.Close())
	}
	return err // else the last reader closes the set, since it may be reading now
}

// acquire gives the slot of an instance, the same to all who ask for it.
func (p *Probes) acquire(in ft.Instance) (*slot, error) {
	fd, s, err := openPidfd(in.Scope.PID, in.Scope.StartTime)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	id := lead{in.Scope.PID, s.start}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead.Load() {
		return nil, fmt.Errorf("the eBPF programs were unloaded: %w", ft.ErrUnavailable)
	}
	x := p.leads[id]
	if x == nil {
		if x, err = p.claim(id); err != nil {
			return nil, err
		}
		if err := p.set.Join(fd, x.Member); err != nil {
			return nil, errors.Join(err, p.drop(x))
		}
		p.leads[id] = x
		p.found(p.set.Pass(fd))
	}
	x.claim = p.census.claim(id, s.session, in.Scope) // the same for all who ask
	x.users++
	x.named[in.Ref]++
	p.refs[in.Ref] = x
	select {
	case p.wake <- struct{}{}: // the rest of its processes
	default:
	}
	return x, nil
}

// claim finds a free slot; p.mu is held.
func (p *Probes) claim(id lead) (*slot, error) {
	number := p.next
	if len(p.free) > 0 && time.Since(p.free[0].at) > rest {
		number = p.free[0].number
		p.free = p.free[1:]
	} else {
		if p.next >= bpf.MaxSlots {
			return nil, fmt.Errorf("more than %d instances: %w", bpf.MaxSlots-1, ft.ErrUnavailable)
		}
		p.next++
	}
	p.serial = max(p.serial+1, 1)
	x := &slot{lead: id, Member: bpf.Member{Slot: number, Serial: p.serial}, born: time.Now(), named: map[ft.Ref]int{}}
	var err error
	if x.data, err = p.set.Claim(number, p.serial); err != nil {
		p.free = append(p.free, freed{number, time.Now()})
		return nil, err
	}
	p.slots[number] = x
	return x, nil
}

// drop gives a slot back; p.mu is held.
func (p *Probes) drop(x *slot) error {
	delete(p.slots, x.Slot)
	delete(p.leads, x.lead)
	p.free = append(p.free, freed{x.Slot, time.Now()})
	err := p.set.Release(x.Slot)
	if p.dead.Load() && len(p.slots) == 0 {
		err = errors.Join(err, p.set.Close())
	}
	return err
}

// release is what each who acquired does in the end.
func (p *Probes) release(x *slot, ref ft.Ref) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.named[ref]--; x.named[ref] == 0 {
		delete(x.named, ref)
		if p.refs[ref] == x {
			delete(p.refs, ref)
		}
	}
	p.census.disclaim(x.claim)
	if x.users--; x.users > 0 {
		return nil
	}
	return p.drop(x)
}

// openPidfd opens a process that began at that time (0: any). The descriptor and the stat are of the same process.
func openPidfd(pid int, start uint64) (fd int, s stat, err error) {
	if fd, err = unix.PidfdOpen(pid, 0); err != nil {
		return -1, s, fmt.Errorf("process %d: %w", pid, err)
	}
	f, err := open(procPath(pid, "stat"))
	if err == nil {
		var buf [1024]byte
		var b []byte
		b, err = f.read(buf[:])
		f.close()
		switch {
		case err != nil:
		case !parseStat(b, &s):
			err = errors.New("its stat is not understood")
		case start != 0 && s.start != start:
			err = fmt.Errorf("began at tick %d, not at %d: another one has its number", s.start, start)
		default:
			// It still is there, so nobody else had its number meanwhile.
			if err = unix.PidfdSendSignal(fd, 0, nil, 0); errors.Is(err, os.ErrPermission) {
				err = nil
			}
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, s, fmt.Errorf("process %d: %w", pid, err)
	}
	return fd, s, nil
}
