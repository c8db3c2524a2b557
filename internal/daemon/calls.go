package daemon

import (
	"context"
	"fmt"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/core/drift"
	"github.com/fettle-dev/fettle/core/plan"
)

// living finds an instance that there is.
func (d *daemon) living(ctx context.Context, name fettle.PoolName, id fettle.InstanceID) (fettle.Instance, error) {
	p, err := d.named(name)
	if err != nil {
		return fettle.Instance{}, err
	}
	var in fettle.Instance
	var there []api.InstanceStatus
	err = p.view(ctx, func(s *plan.State, _ *drift.Judge) {
		for _, m := range s.Members(nil) {
			there = append(there, api.InstanceStatus{ID: m.ID})
			if m.ID == id {
				in = m.Instance
			}
		}
	})
	if err == nil && in.ID == "" {
		err = unknownInstance(id, there)
	}
	return in, err
}

// Destinations are the addresses that an instance calls; none where that is not measured.
func (d *daemon) Destinations(ctx context.Context, pool fettle.PoolName, id fettle.InstanceID) ([]api.Destination, error) {
	in, err := d.living(ctx, pool, id)
	if err != nil {
		return nil, err
	}
	out := []api.Destination{}
	for _, x := range d.probes.loaded().Destinations(in.Ref) {
		out = append(out, api.Destination(x))
	}
	return out, nil
}

// Syscalls counts an instance's system calls for a moment.
func (d *daemon) Syscalls(ctx context.Context, pool fettle.PoolName, id fettle.InstanceID) ([]api.SystemCall, error) {
	in, err := d.living(ctx, pool, id)
	if err != nil {
		return nil, err
	}
	probes, err := d.probes.open(d.log)
	if err != nil {
		return nil, fmt.Errorf("count system calls of %s: %w", id, err)
	}
	calls, err := probes.CallsNow(ctx, in)
	if err != nil {
		return nil, err
	}
	out := []api.SystemCall{}
	for _, x := range calls {
		out = append(out, api.SystemCall(x))
	}
	return out, nil
}
