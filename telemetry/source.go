// Package telemetry measures instances.
package telemetry

import ft "github.com/fettle-dev/fettle"

type emptySource struct{}

func (emptySource) Dimensions() []ft.Dimension { return nil }
func (emptySource) Categories() int            { return 0 }
func (emptySource) Attach(ft.Instance) (ft.Reader, ft.Unavailable, error) {
	return nil, nil, ft.ErrUnavailable
}

// ProcFS measures an instance's process tree by /proc.
func ProcFS() ft.Source { return emptySource{} }

// Cgroup measures an instance by its control group, v2 or v1.
func Cgroup() ft.Source { return emptySource{} }
