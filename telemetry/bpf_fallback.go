package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// fallback measures the traffic of instances that have a network of their own.
type fallback struct {
	why    string
	work   bool
	own    string // the daemon's network namespace
	spaces holders[string, int]
}

// NetworkFallback is the source for where eBPF is not available, for the reason why: bytes sent and received of an
// instance that has a network namespace of its own, from its /proc/PID/net/dev, without those of the loopback interface.
// That counts whole packets and all processes of the namespace, and so nothing is told of instances of the source that are
// in one namespace, as the containers of a pod are. Of all else it says why it is not measured. work is as for
// [Probes.Network].
func NetworkFallback(work bool, why string) ft.Source {
	own, _ := os.Readlink("/proc/self/ns/net")
	return &fallback{why: why, work: work, own: own}
}

// Dimensions are the first two of the network's.
func (f *fallback) Dimensions() []ft.Dimension { return networkDimensions(f.work)[:colNetIn+1] }

func (f *fallback) Categories() []ft.CategorySet { return nil }

func (f *fallback) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	u := ft.Unavailable{}
	for _, d := range networkDimensions(f.work) {
		u[d.Name] = f.why
	}
	dev, space, why, err := f.device(in)
	if err != nil {
		return nil, nil, fmt.Errorf("measure the network of %s: %w", in.Ref, err)
	}
	if why != "" {
		u[ft.DimNetOut], u[ft.DimNetIn] = f.why+"; "+why, f.why+"; "+why
	} else {
		delete(u, ft.DimNetOut)
		delete(u, ft.DimNetIn)
	}
	r := &deviceReader{file: dev, source: f, space: space, pid: in.Scope.PID}
	if dev != closed {
		f.spaces.add(space, r.pid)
	}
	return r, u, nil
}

// device opens the counters of the interfaces of the instance's namespace, or says why they tell nothing.
func (f *fallback) device(in ft.Instance) (dev file, space, why string, err error) {
	if in.Scope.PID <= 0 {
		return closed, "", "it has no process", nil
	}
	space, err = os.Readlink(procPath(in.Scope.PID, "ns/net"))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return closed, "", "no permission to see its network namespace", nil
	case err != nil:
		return closed, "", "", err
	case space == f.own:
		return closed, "", "it has no network namespace of its own", nil
	}
	if dev, err = open(procPath(in.Scope.PID, "net/dev")); err != nil {
		return closed, "", "", err
	}
	fd, _, err := openPidfd(in.Scope.PID, in.Scope.StartTime)
	if err != nil {
		dev.close() // of another process that has the number by now
		return closed, "", "", err
	}
	_ = unix.Close(fd)
	return dev, space, "", nil
}

// deviceReader reads one namespace's interfaces.
type deviceReader struct {
	file   file
	source *fallback
	space  string
	pid    int
	buf    [8192]byte
}

// Read implements [ft.Reader].
func (r *deviceReader) Read(_ time.Time, row []float64, _ []uint64) error {
	fill(row, math.NaN())
	if r.file == closed || r.source.spaces.count(r.space) > 1 {
		return nil
	}
	b, err := r.file.read(r.buf[:])
	if err != nil {
		return nil //nolint:nilerr // the namespace is gone with the instance: nothing to read
	}
	if in, out, ok := parseNetDev(b); ok {
		row[colNetOut], row[colNetIn] = float64(out), float64(in)
	}
	return nil
}

// Missing implements [Reporter].
func (r *deviceReader) Missing() ft.Unavailable {
	n := r.source.spaces.count(r.space)
	if n < 2 {
		return nil
	}
	why := fmt.Sprintf("%s; %d instances share its network namespace, which only counts for all of them together", r.source.why, n)
	return ft.Unavailable{ft.DimNetOut: why, ft.DimNetIn: why}
}

// Close implements [ft.Reader].
func (r *deviceReader) Close() error {
	if r.file != closed {
		r.source.spaces.remove(r.space, r.pid)
	}
	r.file.close()
	return nil
}
