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
			return nil, fmt.Errorf("state directory %s: %w", dir, api.ErrNoDaemon)
		}
		return c.alive(ctx, r.Socket)
	}
	running, err := daemons(ctx)
	if err != nil {
		return nil, err
	}
	switch len(running) {
	case 0:
		return nil, fmt.Errorf("%w: start one with fettle run or fettle up, or name its directory with --state or FETTLE_STATE", api.ErrNoDaemon)
	case 1:
		return client.New(running[0].Socket), nil
	}
	var b strings.Builder
	for _, r := range running {
		fmt.Fprintf(&b, "\n  --state %s   %s", r.StateDir, strings.Join(r.Pools, ", "))
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

// running is a daemon that answers.
type running struct {
	daemon.Record
	Pools []string
}

// daemons are those of the registry that answer, by state directory.
func daemons(ctx context.Context) ([]running, error) {
	reg := registry()
	if reg == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(reg)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("registry of daemons: %w; name the daemon's directory with --state or FETTLE_STATE", err)
	}
	var out []running
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(reg, e.Name()))
		if err != nil {
			continue // its daemon has just ended
		}
		var r running
		if json.Unmarshal(b, &r.Record) != nil {
			continue
		}
		if r.Pools, err = poolsOf(ctx, r.Socket); err == nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b running) int { return strings.Compare(a.StateDir, b.StateDir) })
	return out, nil
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
