package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/engine"
	"github.com/fettle-dev/fettle/recording"
)

// Record gives the lines of a recording of a pool from now on. The loop never waits for f: one that is too slow ends the
// recording, and its last line says so.
func (d *daemon) Record(ctx context.Context, name fettle.PoolName, o api.RecordOptions, f func(line []byte) error) error {
	p, err := d.named(name)
	if err != nil {
		return err
	}
	r, err := recording.Begin(ctx, p.loop, p.sampler.Schema(), recording.Options{Fettle: d.o.Version, Secrets: o.Secrets})
	if err != nil {
		return err
	}
	err = r.Run(ctx, p.loop.Stopped(), f)
	reason := ""
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, engine.ErrStopped):
		p.mu.Lock()
		reason = cmp.Or(p.ended, "the pool was stopped")
		p.mu.Unlock()
	case errors.Is(err, recording.ErrSlow):
		reason = err.Error()
		d.log.Warn("recording ended", "pool", name, "err", err)
	default:
		return err
	}
	b, err := json.Marshal(map[string]recording.End{"end": {At: time.Now().UTC().Round(0), Reason: reason}})
	if err != nil {
		return err
	}
	return f(b)
}
