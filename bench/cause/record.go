package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/recording"
)

// stretch is a recorded scenario. It lies beside its recording, NAME.json beside NAME.rec, and is written last.
type stretch struct {
	App      string    `json:"app"`
	Seed     uint64    `json:"seed"`
	Learnt   string    `json:"learnt"` // the recording of the same instances' healthy time
	Kind     kind      `json:"kind"`
	All      bool      `json:"all"`
	Victim   string    `json:"victim"` // instance
	Size     float64   `json:"size"`
	Begun    time.Time `json:"begun"` // when the scenario did
	Ended    time.Time `json:"ended"`
	Named    bool      `json:"named,omitempty"` // slow dependency: the destination was told as slow
	Requests int64     `json:"requests"`
	Wrong    int64     `json:"wrong"` // requests without an answer
	Late     float64   `json:"late"`  // seconds, mean, by which the bench's own timers were late

	file string
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // cannot fail
	return h.Sum64()
}

// fileOf is the name of a scenario's files, without their endings.
func fileOf(dir string, s scenario) string {
	return filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(s.String())))
}

// record makes what is missing of one application and seed. Where an instance dies it begins again with new ones.
func (b *bench) record(ctx context.Context, a *application, seed uint64) error {
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", a.name, seed))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	const tries = 4
	for try := 1; ; try++ {
		todo := b.missing(a, seed, dir)
		if len(todo) == 0 {
			report.Say("%s, seed %d: all scenarios are recorded", a.name, seed)
			return nil
		}
		err := b.session(ctx, a, seed, dir, todo)
		if err == nil || ctx.Err() != nil || try == tries {
			return err
		}
		report.Say("%s, seed %d: once more: %v", a.name, seed, err)
	}
}

// missing lists what is not recorded yet, in the order in which it is to be.
func (b *bench) missing(a *application, seed uint64, dir string) []scenario {
	var todo []scenario
	for _, s := range b.scenarios {
		if _, err := os.Stat(fileOf(dir, s) + ".json"); errors.Is(err, fs.ErrNotExist) && !slices.Contains(a.lacks, s.kind) {
			todo = append(todo, s)
		}
	}
	rand.New(rand.NewPCG(seed, hash(a.name))).Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	slices.SortStableFunc(todo, func(s, t scenario) int { return s.kind.trace() - t.kind.trace() })
	return todo
}

// session records scenarios of the same instances.
func (b *bench) session(ctx context.Context, a *application, seed uint64, dir string, todo []scenario) (err error) {
	r := &run{timing: b.timing, app: a, seed: seed, exe: b.exe}
	if err := r.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	report.Say("%s, seed %d: %d instances under load; learning, then %d scenarios, about %s", a.name, seed, members, len(todo),
		(b.warm + b.healthy + time.Duration(len(todo))*(b.before+b.during+b.settle)).Round(time.Second))
	if err := pause(ctx, b.warm); err != nil {
		return err
	}
	learnt := fmt.Sprintf("learnt-%d.rec", time.Now().Unix())
	for try := 1; ; try++ {
		if err := r.meter.calm(ctx); err != nil {
			return err
		}
		if err := into(ctx, r.client, filepath.Join(dir, learnt), func() error { return pause(ctx, b.healthy) }); err != nil {
			return err
		}
		late := r.meter.take()
		report.Say("%s, seed %d: healthy time recorded; timers were %s late", a.name, seed, late.Round(time.Microsecond))
		if late <= mostLate || try == again {
			break
		}
	}
	for i, s := range todo {
		for try := 1; ; try++ {
			if err := r.meter.calm(ctx); err != nil {
				return err
			}
			late, err := r.stretch(ctx, s, dir, learnt)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			report.Say("%s, seed %d: %s recorded (%d of %d); timers were %s late", a.name, seed, s, i+1, len(todo), late.Round(time.Microsecond))
			if late <= mostLate || try == again {
				break
			}
		}
	}
	return nil
}

// stretch records one scenario, and tells how busy the machine was with other things.
func (r *run) stretch(ctx context.Context, s scenario, dir, learnt string) (late time.Duration, err error) {
	v, size := draw(r.seed, s)
	victim := r.ins[v]
	out := stretch{App: r.app.name, Seed: r.seed, Learnt: learnt, Kind: s.kind, All: s.all, Victim: string(victim.id), Size: size}
	file := fileOf(dir, s)
	sent, wrong := r.load.sent.Load(), r.load.wrong.Load()
	r.meter.take()
	err = into(ctx, r.client, file+".rec", func() error {
		if err := pause(ctx, r.before); err != nil {
			return err
		}
		out.Begun = time.Now().UTC()
		end, err := r.begin(ctx, s, victim, size)
		if err != nil {
			return err
		}
		err = pause(ctx, r.during)
		out.Ended = time.Now().UTC()
		late = r.meter.take()
		if s.kind == dependency {
			out.Named = r.named(ctx, victim)
		}
		return errors.Join(err, end())
	})
	if err != nil {
		return 0, err
	}
	if err := r.same(ctx); err != nil {
		return 0, err
	}
	out.Requests, out.Wrong, out.Late = r.load.sent.Load()-sent, r.load.wrong.Load()-wrong, late.Seconds()
	text, err := json.Marshal(out)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(file+".json", append(text, '\n'), 0o600); err != nil {
		return 0, err
	}
	return late, pause(ctx, r.settle)
}

// named tells whether the backend is told as slow where one asks.
func (r *run) named(ctx context.Context, in instance) bool {
	list, err := r.client.Destinations(ctx, in.id)
	if err != nil {
		return false
	}
	for i := range list {
		if list[i].Address == r.backend.addr && list[i].Slow {
			return true
		}
	}
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	if !sleep(ctx, d) {
		return ctx.Err()
	}
	return nil
}

// into records the pool while f runs, as `fettle record` does.
func into(ctx context.Context, c *client.Client, path string, f func() error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := recording.NewWriter(file)
	recorded, stop := context.WithCancel(ctx)
	defer stop()
	begun, done := make(chan struct{}), make(chan error, 1)
	lines := 0
	go func() {
		done <- c.Record(recorded, poolName, false, func(line []byte) error {
			if len(line) == 0 {
				return w.Age()
			}
			if lines++; lines == 1 {
				close(begun)
			}
			return w.Line(line)
		})
	}()
	select {
	case <-begun:
	case err := <-done:
		return fmt.Errorf("record: %w", err)
	}
	err = f()
	stop()
	if rerr := <-done; !errors.Is(rerr, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("record: %w", rerr))
	}
	return errors.Join(err, w.End(recording.End{At: time.Now().UTC(), Reason: "the stretch is over"}))
}
