package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/router"
)

// leftError is that no daemon runs while what one left goes on in state directories.
type leftError struct {
	text string
	dirs []string
}

func (e *leftError) Error() string { return e.text }
func (e *leftError) Unwrap() error { return api.ErrNoDaemon }

// noDaemon is the error where no daemon runs on any of the state directories. It tells what goes on there without, and how a
// new one takes it over; hint is what to do where nothing does.
func (c *cli) noDaemon(ctx context.Context, dirs []string, hint string) error {
	e := &leftError{}
	var told []string
	for _, dir := range dirs {
		if what := leftIn(ctx, dir); what != "" {
			told = append(told, what+": "+c.takeOver(dir))
			e.dirs = append(e.dirs, dir)
		}
	}
	switch {
	case len(told) > 0:
		e.text = fmt.Sprintf("%s, but %s", api.ErrNoDaemon, strings.Join(told, "; and "))
		return e
	case hint == "":
		return fmt.Errorf("state directory %s: %w", dirs[0], api.ErrNoDaemon)
	default:
		return fmt.Errorf("%w%s", api.ErrNoDaemon, hint)
	}
}

// leftIn says what goes on in a state directory without a daemon; "" where nothing does.
func leftIn(ctx context.Context, dir string) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	n := map[fettle.PoolName]int{}
	for _, ref := range process.Running(dir) {
		n[ref.ID.Pool()]++
	}
	at := map[fettle.PoolName]string{}
	names := make([]fettle.PoolName, 0, len(n))
	_, serving, _ := router.Look(ctx, dir) // one that does not answer serves nobody
	for _, s := range serving {
		if s.Members > 0 {
			at[s.Pool] = s.Address
		}
	}
	for name := range n {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []string
	for _, name := range names {
		instances := fmt.Sprintf("%d %s", n[name], plural(n[name], "instance"))
		verb := "run"
		if n[name] == 1 {
			verb = "runs"
		}
		if a := at[name]; a != "" {
			out = append(out, fmt.Sprintf("pool %s is served on at %s by %s", name, a, instances))
		} else {
			out = append(out, fmt.Sprintf("%s of pool %s %s on", instances, name, verb))
		}
	}
	return strings.Join(out, ", ")
}

// takeOver says which commands take over what goes on in a state directory, and which end it.
func (c *cli) takeOver(dir string) string {
	own := *c
	own.state = ""
	if b, err := base(); err == nil && filepath.Dir(dir) == filepath.Join(b, "run") {
		return fmt.Sprintf("fettle run --name %s, as it was started, takes over; fettle down --state %s ends it", filepath.Base(dir), dir)
	}
	state := ""
	if std, err := own.stateDir(); err != nil || std != dir {
		state = " --state " + dir
	}
	return fmt.Sprintf("fettle up FILE%s takes over; fettle down%s ends it", state, state)
}
