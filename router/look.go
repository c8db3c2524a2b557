package router

import (
	"context"
	"fmt"
	"path/filepath"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// Serving is a pool that a router serves.
type Serving struct {
	Pool    ft.PoolName
	Address string
	Members int // that it may give requests to
}

// Look asks the router of a state directory what it serves, and changes nothing. pid is 0 where no router answers.
func Look(ctx context.Context, stateDir string) (pid int, pools []Serving, err error) {
	k := link{socket: filepath.Join(stateDir, "router", "control.sock")}
	defer k.close()
	h, err := k.hello(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("router: %w", err)
	}
	for _, t := range h.Tables {
		s := Serving{Pool: t.Pool, Address: t.Listen}
		for i := range t.Members {
			if !t.Members[i].Draining {
				s.Members++
			}
		}
		r, _, err := k.ask(ctx, &wire.Request{Op: wire.OpStats, Pool: t.Pool}, nil)
		if err == nil && r.Stats != nil {
			s.Address = r.Stats.Address // where the system chose the port
		}
		pools = append(pools, s)
	}
	return h.PID, pools, nil
}
