package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/config"
	"github.com/fettle-dev/fettle/internal/daemon"
)

const defaultFile = "fettle.yaml"

func (c *cli) upCommand() *cobra.Command {
	var f servingFlags
	var detach bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "up [FILE]",
		Short: "Run the pools of a file, or make it the desired state of the running daemon",
		Long: `Runs the pools of a file (fettle.yaml by default) until Ctrl-C, which finishes the requests in flight and stops
everything. With --detach a daemon of its own does it, which leaves the instances running when it is ended by a signal;
fettle down stops them.

Where a daemon runs on the state directory already, the file becomes its desired state: pools are added, changed and
removed. Instances made from an older image or specification run on until fettle restart replaces them.`,
		Example: `  fettle up
  fettle up shop.yaml --detach
  fettle up shop.yaml            # again, after a change of the file`,
		Args: atMost("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := defaultFile
			if len(args) == 1 {
				file = args[0]
			}
			pools, err := readPools(file)
			if err != nil {
				return err
			}
			dir, err := c.stateDir()
			if err != nil {
				return err
			}
			if r, err := daemon.Find(dir); err == nil {
				if cl, err := c.alive(cmd.Context(), r.Socket); err == nil {
					return c.apply(cmd.Context(), cl, pools, 0)
				}
			}
			if !detach {
				return c.foreground(cmd.Context(), dir, pools, &f)
			}
			cl, err := c.detach(cmd.Context(), dir, &f)
			if err != nil {
				return err
			}
			return c.apply(cmd.Context(), cl, pools, wait)
		},
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "return when the pools are up; a daemon goes on")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "with --detach, how long to wait until the pools are up")
	f.add(cmd.Flags())
	return cmd
}

// readPools reads a pool file; relative paths in it are relative to it.
func readPools(file string) ([]fettle.Pool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && file == defaultFile {
			return nil, invalid("there is no %s here: name a file, or write one with fettle init -- COMMAND", file)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, invalid("there is no file %s: fettle init --file %s -- COMMAND writes one", file, file)
		}
		return nil, invalid("%s", err)
	}
	f, err := config.Parse(file, b)
	if err != nil {
		return nil, &fileError{err}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, invalid("%s: %s", file, err)
	}
	for i := range f.Pools {
		absolute(&f.Pools[i], dir)
	}
	return f.Pools, nil
}

// fileError makes what is wrong with a file wrong input.
type fileError struct{ error }

func (e *fileError) Unwrap() []error { return []error{e.error, fettle.ErrInvalid} }

// apply makes pools the daemon's desired state and says what that changes.
func (c *cli) apply(ctx context.Context, cl *client.Client, pools []fettle.Pool, wait time.Duration) error {
	a, err := cl.Apply(ctx, pools)
	if err != nil {
		return err
	}
	ps, failed := waitUp(ctx, cl, wait)
	if c.format == "json" {
		if err := c.printJSON(a); err != nil {
			return err
		}
		return failed
	}
	for _, x := range []struct {
		word  string
		names []fettle.PoolName
	}{{"added", a.Added}, {"changed", a.Changed}, {"removed", a.Removed}, {"unchanged", a.Unchanged}} {
		for _, n := range x.names {
			c.say("pool %s %s", n, x.word)
		}
	}
	for i := range ps {
		at := ""
		if ps[i].Address != "" {
			at = " at http://" + ps[i].Address
		}
		c.say("pool %s: %d of %d ready%s", ps[i].Name, ps[i].Ready, ps[i].Desired, at)
		for _, in := range ps[i].Instances {
			if in.Outdated {
				c.say("  %s is outdated: fettle restart %s replaces it", in.ID, ps[i].Name)
			}
		}
	}
	return failed
}

// waitUp waits until all pools are up, at most so long; pools that cannot come up are an error.
func waitUp(ctx context.Context, cl *client.Client, wait time.Duration) ([]api.PoolStatus, error) {
	deadline := time.Now().Add(wait)
	for {
		ps, err := cl.Pools(ctx)
		if err != nil {
			return nil, err
		}
		up := true
		for i := range ps {
			p := &ps[i]
			if p.Degraded && p.Ready == 0 {
				return ps, fmt.Errorf("pool %s: %s%s: %w", p.Name, p.DegradedWhy, lastError(p), api.ErrDegraded)
			}
			up = up && p.Ready >= p.Desired
		}
		if up || wait == 0 {
			return ps, nil
		}
		if time.Now().After(deadline) {
			return ps, fmt.Errorf("the pools are not up after %s; fettle ps and fettle log tell more: %w", span(wait), api.ErrDegraded)
		}
		select {
		case <-ctx.Done():
			return ps, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func lastError(p *api.PoolStatus) string {
	for _, in := range p.Instances {
		if in.LastError != "" && !strings.Contains(p.DegradedWhy, strings.TrimSpace(in.LastError)) {
			return ": " + strings.TrimSpace(in.LastError)
		}
	}
	return ""
}

// detach starts a daemon of its own and returns when it answers.
func (c *cli) detach(ctx context.Context, dir string, f *servingFlags) (*client.Client, error) {
	if _, err := f.logger(c.err); err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	if err := daemon.MakeStateDir(dir); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	logPath := filepath.Join(dir, "daemon.log")
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	defer out.Close()
	args := []string{"internal-daemon", "--state", dir, "--metrics", f.metrics, "--log-format", f.logFormat, "--log-level", f.logLevel}
	if c.socket != "" {
		args = append(args, "--api", c.socket)
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if r, err := daemon.Find(dir); err == nil && r.PID == cmd.Process.Pid {
			if cl, err := c.alive(ctx, r.Socket); err == nil {
				return cl, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-ended:
			return nil, detachError(err, logPath)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// detachError is why a daemon ended at once: what it said last.
func detachError(err error, logPath string) error {
	text := fmt.Sprintf("the daemon ended at once; the end of its log, %s:\n%s", logPath, lastLines(logPath, 5))
	exit, is := errors.AsType[*exec.ExitError](err)
	for _, k := range api.Kinds {
		if is && k.Exit == exit.ExitCode() && k.Exit != api.Failed.Exit {
			return &api.Error{Kind: k.Name, Message: text}
		}
	}
	return errors.New(text)
}

func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
