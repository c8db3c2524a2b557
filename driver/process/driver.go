// Package process is the driver for plain processes.
package process

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Options of a [Driver].
type Options struct {
	// StateDir holds the records, data and output of all instances.
	StateDir string
	// Log takes what the driver has to say that is no error of a call.
	Log *slog.Logger
	// Exe is the binary that is re-executed as the exec shim; the running one if empty.
	Exe string
}

// Driver makes instances that are processes.
type Driver struct{ o Options }

// New opens the driver over the state directory.
func New(o Options) (*Driver, error) { return &Driver{o: o}, nil }

// Close lets the instances run and frees what the driver holds.
func (d *Driver) Close() error { return nil }

// OutputPath is the file with what the instance wrote to stdout and stderr.
func (d *Driver) OutputPath(id ft.InstanceID) string {
	return filepath.Join(d.o.StateDir, "instances", string(id.Pool()), string(id), "output.log")
}

// Fact is one thing that this machine gives or does not give.
type Fact struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Detail    string `json:"detail,omitempty"`
	Without   string `json:"without,omitempty"` // what Fettle does without it
}

// Facts tells what this machine gives.
func (d *Driver) Facts() []Fact { return nil }

// Start makes the instance.
func (d *Driver) Start(context.Context, *ft.Pool, ft.Ref, ft.Work) (ft.Instance, error) {
	return ft.Instance{}, fmt.Errorf("start: %w", ft.ErrUnavailable)
}

// Stop ends it.
func (d *Driver) Stop(context.Context, ft.Ref, time.Duration) error { return nil }

// List is what exists.
func (d *Driver) List(context.Context, ft.PoolName) ([]ft.Instance, error) { return nil, nil }

// Watch reports exits until ctx ends.
func (d *Driver) Watch(ctx context.Context, _ func(ft.Ref, ft.Exit)) error {
	<-ctx.Done()
	return nil
}

// Knobs are those that this machine allows.
func (d *Driver) Knobs(*ft.Pool, ft.Instance) []ft.Knob { return nil }

// Set changes one setting.
func (d *Driver) Set(context.Context, *ft.Pool, ft.Ref, ft.Setting) (ft.Setting, error) {
	return ft.Setting{}, fmt.Errorf("set: %w", ft.ErrUnavailable)
}

// Specialize injects data into a running instance.
func (d *Driver) Specialize(context.Context, *ft.Pool, ft.Ref, ft.Work) (ft.Instance, error) {
	return ft.Instance{}, fmt.Errorf("specialize: %w", ft.ErrUnavailable)
}

// CanSoftReset tells whether the pool declares how.
func (d *Driver) CanSoftReset(*ft.Pool, ft.Work) error { return ft.ErrUnavailable }

// SoftReset reloads and keeps state.
func (d *Driver) SoftReset(context.Context, *ft.Pool, ft.Ref) error {
	return fmt.Errorf("soft reset: %w", ft.ErrUnavailable)
}

// FullReset takes the instance back to its image.
func (d *Driver) FullReset(context.Context, *ft.Pool, ft.Ref) (ft.Instance, error) {
	return ft.Instance{}, fmt.Errorf("full reset: %w", ft.ErrUnavailable)
}

// Shim is the hidden subcommand `fettle internal-exec`.
func Shim([]string) (code int) { return 1 }

var _ interface {
	ft.Driver
	ft.Tuner
	ft.Specializer
	ft.SoftResetter
	ft.FullResetter
} = (*Driver)(nil)
