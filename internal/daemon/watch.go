package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/driver/watch"
)

// onlyWatches is why a daemon that was started for watched pools alone runs no instances.
func onlyWatches() error {
	return fmt.Errorf("this daemon was started to watch only, and runs no instances: fettle down first, then up: %w", fettle.ErrConflict)
}

// driver is the one of the pool's instances, with what it can do: one of its own where they are only watched.
func (p *pool) driver(spec *fettle.Pool) (fettle.Capabilities, error) {
	if spec.Watch == nil {
		if p.d.driver == nil {
			return fettle.Capabilities{}, onlyWatches()
		}
		return p.d.caps, nil
	}
	var err error
	p.watch, err = watch.Open(spec, watch.Options{StateDir: p.d.o.StateDir, Log: p.d.log})
	if err != nil {
		return fettle.Capabilities{}, err
	}
	return fettle.Resolve(p.watch), nil
}

// find posts the servers that appear.
func (p *pool) find(ctx context.Context) {
	err := p.watch.Find(ctx, func(in fettle.Instance) {
		p.loop.Post(&fettle.Found{Stamp: fettle.Stamp{At: time.Now().UTC().Round(0)}, Instance: in})
	})
	if err != nil && ctx.Err() == nil {
		p.d.log.Error("new servers are no longer found", "pool", p.name, "err", err)
	}
}

func (p *pool) unwatch() error {
	if p.watch == nil {
		return nil
	}
	return p.watch.Close()
}

// work are the load columns that at least one instance has.
func (p *pool) work(ins []api.InstanceStatus) []string {
	names := []string{}
	schema := p.sampler.Schema()
	for i := range schema.Loads() {
		name := schema.At(i).Name
		has := func(in api.InstanceStatus) bool {
			_, lacks := in.Unavailable[name]
			return in.Unavailable != nil && !lacks
		}
		if slices.ContainsFunc(ins, has) {
			names = append(names, name)
		}
	}
	return names
}
