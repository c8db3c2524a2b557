package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/internal/daemon"
)

// connect finds the daemon that is meant: by --api, else by --state, else the only one that runs.
func (c *cli) connect(ctx context.Context) (*client.Client, error) {
	if c.socket != "" {
		return c.alive(ctx, c.socket)
	}
	if c.state != "" {
		dir, err := c.stateDir()
		if err != nil {
			return nil, err
		}
		r, err := daemon.Find(dir)
		if err != nil {
			return nil, c.noDaemon(ctx, []string{dir}, "")
		}
		cl, err := c.alive(ctx, r.Socket)
		if errors.Is(err, api.ErrNoDaemon) {
			err = c.noDaemon(ctx, []string{dir}, "")
		}
		return cl, err
	}
	running, dead, err := daemons(ctx)
	if err != nil {
		return nil, err
	}
	switch len(running) {
	case 0:
		if dir, err := c.stateDir(); err == nil && !slices.Contains(dead, dir) {
			dead = append(dead, dir)
		}
		return nil, c.noDaemon(ctx, dead, ": start one with fettle run or fettle up, or name its directory with --state or FETTLE_STATE")
	case 1:
		return c.answering(ctx, &running[0])
	}
	var b strings.Builder
	for _, r := range running {
		what := strings.Join(r.Pools, ", ")
		if r.silent {
			what = "does not answer"
		}
		fmt.Fprintf(&b, "\n  --state %s   %s", r.StateDir, what)
	}
	return nil, invalid("%d daemons run; say which one:%s", len(running), b.String())
}

func (c *cli) alive(ctx context.Context, socket string) (*client.Client, error) {
	cl := client.New(socket)
	if _, err := cl.Version(ctx); err != nil {
		return nil, err
	}
	return cl, nil
}

// answering is the client of a daemon that runs; one that did not answer at first has a while.
func (c *cli) answering(ctx context.Context, r *running) (*client.Client, error) {
	if !r.silent {
		return client.New(r.Socket), nil
	}
	ctx, cancel := context.WithTimeout(ctx, slowly)
	defer cancel()
	cl, err := c.alive(ctx, r.Socket)
	if err != nil {
		return nil, fmt.Errorf("a daemon, pid %d, runs on %s, but does not answer: %w", r.PID, r.StateDir, fettle.ErrDeadline)
	}
	return cl, nil
}

// slowly is how long a daemon may take to answer that did not within three seconds.
const slowly = 15 * time.Second

// running is a daemon that runs.
type running struct {
	daemon.Record
	Pools  []string
	silent bool // it holds its state directory and did not answer
}

// daemons are those of the registry that run, by state directory, and the state directories of those that ended without
// taking themselves out of it.
func daemons(ctx context.Context) (alive []running, dead []string, err error) {
	reg := registry()
	if reg == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(reg)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("registry of daemons: %w; name the daemon's directory with --state or FETTLE_STATE", err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(reg, e.Name()))
		if err != nil {
			continue // its daemon has just ended
		}
		var r running
		if json.Unmarshal(b, &r.Record) != nil {
			continue
		}
		if r.Pools, err = poolsOf(ctx, r.Socket); err != nil {
			r.silent = true
			if !daemon.Held(r.StateDir) {
				dead = append(dead, r.StateDir)
				continue
			}
		}
		alive = append(alive, r)
	}
	slices.SortFunc(alive, func(a, b running) int { return strings.Compare(a.StateDir, b.StateDir) })
	slices.Sort(dead)
	return alive, dead, nil
}

func poolsOf(ctx context.Context, socket string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cl := client.New(socket)
	defer cl.Close()
	ps, err := cl.Pools(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(ps))
	for i := range ps {
		names = append(names, string(ps[i].Name))
	}
	return names, nil
}

// registry is the directory in which daemons tell where they are; "" where this user has no place for it.
func registry() string {
	b, err := base()
	if err != nil {
		return ""
	}
	return filepath.Join(b, "daemons")
}
