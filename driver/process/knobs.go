package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/cgroup"
)

// The knobs.
const (
	knobMemory = "memory" // bytes
	knobCPU    = "cpu"    // weight, 100 by default
)

const (
	usualWeight  = 100
	memoryStep   = 1.25
	cpuStep      = 1.5
	memoryAtMost = 4        // times what it starts with
	memoryLeast  = 16 << 20 // below this no program of today starts
	// niceStep is the ratio of the weights of two adjacent nice levels (kernel/sched/core.c, sched_prio_to_weight).
	niceStep = 1.25
	// spareNice is the autogroup priority at which instances of an unprivileged daemon start: nobody may go above 0
	// without privilege, so room to go up is made by starting below. Each instance is a session of its own, and three
	// of them at this priority together weigh more than the one session that they would share if started by hand.
	spareNice = 4
)

// initialSettings decides and applies what a new life starts with. A memory limit is set only where the pool declares
// one, its own or a budget: that, divided so that the largest pool fits, or half as much again as the smallest.
func initialSettings(p *ft.Pool, rec *record) error {
	if n := initialMemory(p); n > 0 && rec.Group.HasMemory() {
		if err := rec.Group.SetMemory(n); err != nil {
			return err
		}
		rec.Instance.Settings = append(rec.Instance.Settings, ft.Setting{Knob: knobMemory, Value: float64(n)})
	}
	switch {
	case rec.Group.HasCPU():
		if err := rec.Group.SetWeight(usualWeight); err != nil {
			return err
		}
	case autogroup():
		nice := 0
		if p.Mode != ft.Observe && !mayRaise() {
			nice = spareNice
		}
		rec.Nice = &nice
	default:
		return nil
	}
	rec.Instance.Settings = append(rec.Instance.Settings, ft.Setting{Knob: knobCPU, Value: usualWeight})
	return nil
}

func initialMemory(p *ft.Pool) int64 {
	if p.Limits.Memory > 0 {
		return int64(p.Limits.Memory)
	}
	n := max(float64(p.Size.Max), 1.5*float64(p.Size.Min), 1)
	return int64(float64(p.Budget.Memory) / n)
}

// autogroup tells whether sessions have priorities against each other.
func autogroup() bool {
	b, err := os.ReadFile("/proc/sys/kernel/sched_autogroup_enabled")
	return err == nil && string(bytes.TrimSpace(b)) == "1"
}

// mayRaise tells whether this process may give priorities above the usual one.
func mayRaise() bool {
	c, err := capabilities()
	return err == nil && c.effective(unix.CAP_SYS_NICE)
}

// niceOf is the autogroup priority of a weight, where that of weight 100 is base.
func niceOf(weight float64, base int) int {
	n := float64(base) - math.Round(math.Log(weight/usualWeight)/math.Log(niceStep))
	return int(min(max(n, -20), 19))
}

// weightOf is the weight of an autogroup priority, the inverse of niceOf.
func weightOf(nice, base int) float64 {
	return math.Round(usualWeight * math.Pow(niceStep, float64(base-nice)))
}

// Knobs are those that this machine allows for the instance, with Value the present one; none for a life that is not
// there.
func (d *Driver) Knobs(p *ft.Pool, in ft.Instance) []ft.Knob {
	d.mu.Lock()
	l := d.lives[in.ID]
	d.mu.Unlock()
	if l == nil || l.current(in.Ref) != nil {
		return nil
	}
	rec, _, ok := l.snapshot()
	if !ok {
		return nil
	}
	return knobs(p, &rec)
}

func knobs(p *ft.Pool, rec *record) []ft.Knob {
	var ks []ft.Knob
	// An instance without a limit has all the memory that it wants.
	if v, ok := setting(rec, knobMemory); ok && rec.Group.HasMemory() {
		start := float64(initialMemory(p))
		if start <= 0 {
			start = v
		}
		most := max(min(memoryAtMost*start, memoryBudget(p)), start, v)
		ks = append(ks, ft.Knob{
			Name: knobMemory, Unit: "B", Min: min(memoryLeast, v), Max: most, Step: memoryStep, Value: v,
			Relieves: []string{ft.DimRefaults, ft.DimPressMem, ft.DimMajor, ft.DimRead},
			Rung:     ft.Low, Disruption: 1, Draws: ft.Memory,
		})
	}
	if v, ok := setting(rec, knobCPU); ok {
		least, most := 1.0, 10000.0
		if rec.Nice != nil {
			least, most = weightOf(19, *rec.Nice), weightOf(0, *rec.Nice)
			if mayRaise() {
				most = weightOf(-20, *rec.Nice)
			}
		}
		ks = append(ks, ft.Knob{
			Name: knobCPU, Unit: "weight", Min: max(least, 1), Max: max(most, v), Step: cpuStep, Value: v,
			Relieves: []string{ft.DimRunQueue, ft.DimPressCPU, ft.DimP99, ft.DimP50},
			Rung:     ft.Medium, Draws: ft.CPU,
		})
	}
	return ks
}

func setting(rec *record, knob string) (float64, bool) {
	for _, s := range rec.Instance.Settings {
		if s.Knob == knob {
			return s.Value, true
		}
	}
	return 0, false
}

// memoryBudget is what the pool may use: as declared, or what the machine has, less a tenth.
func memoryBudget(p *ft.Pool) float64 {
	if p.Budget.Memory > 0 {
		return float64(p.Budget.Memory)
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return math.Inf(1)
	}
	return 0.9 * float64(si.Totalram) * float64(si.Unit)
}

// Set changes one setting of a running instance and returns the previous value. A memory setting below what is in use
// is refused with [ft.ErrConflict].
func (d *Driver) Set(ctx context.Context, p *ft.Pool, ref ft.Ref, s ft.Setting) (ft.Setting, error) {
	l, rec, release, err := d.take(ctx, ref)
	if err != nil {
		return ft.Setting{}, fmt.Errorf("set %s: %w", s.Knob, err)
	}
	defer release()
	ks := knobs(p, rec)
	i := slices.IndexFunc(ks, func(k ft.Knob) bool { return k.Name == s.Knob })
	if i < 0 {
		return ft.Setting{}, fmt.Errorf("set %s of %s: no such knob here: %w", s.Knob, ref, ft.ErrUnavailable)
	}
	k := ks[i]
	if !(s.Value >= k.Min && s.Value <= k.Max) {
		return ft.Setting{}, fmt.Errorf("set %s of %s: %g is not between %g and %g: %w", s.Knob, ref, s.Value, k.Min, k.Max, ft.ErrInvalid)
	}
	was := ft.Setting{Knob: s.Knob, Value: k.Value}
	if err := turn(rec, l.pid(), s); err != nil {
		return was, fmt.Errorf("set %s of %s: %w", s.Knob, ref, err)
	}
	err = l.update(func(r *record) {
		for i := range r.Instance.Settings {
			if r.Instance.Settings[i].Knob == s.Knob {
				r.Instance.Settings[i].Value = s.Value
			}
		}
	})
	if err != nil {
		// What is not noted must not be in force.
		return was, fmt.Errorf("set %s of %s: %w", s.Knob, ref, errors.Join(err, turn(rec, l.pid(), was)))
	}
	return was, nil
}

func (l *life) pid() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ident.PID
}

// turn makes a setting hold in the kernel.
func turn(rec *record, pid int, s ft.Setting) error {
	switch {
	case s.Knob == knobMemory:
		err := rec.Group.SetMemory(int64(s.Value))
		if errors.Is(err, cgroup.ErrInUse) {
			return fmt.Errorf("%w: %w", ft.ErrConflict, err)
		}
		return err
	case rec.Nice != nil:
		return setAutogroup(pid, niceOf(s.Value, *rec.Nice))
	default:
		return rec.Group.SetWeight(int(math.Round(s.Value)))
	}
}

func weightText(base int) string { return strconv.Itoa(int(weightOf(0, base))) }
