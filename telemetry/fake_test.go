package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// fake is a source whose readings the test writes down.
type fake struct {
	dims    []ft.Dimension
	ncat    int
	missing ft.Unavailable
	attach  error

	mu      sync.Mutex
	row     []float64
	counts  []uint64
	fail    map[ft.InstanceID]error
	block   map[ft.InstanceID]chan struct{}
	readers int
	reads   int
}

func (f *fake) Dimensions() []ft.Dimension { return f.dims }
func (f *fake) Categories() []ft.CategorySet {
	if f.ncat == 0 {
		return nil
	}
	return []ft.CategorySet{{Name: "routes", Size: f.ncat}}
}

func (f *fake) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attach != nil {
		return nil, nil, f.attach
	}
	f.readers++
	return &fakeReader{f, in.ID}, f.missing, nil
}

func (f *fake) set(row ...float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.row = row
}

type fakeReader struct {
	f  *fake
	id ft.InstanceID
}

func (r *fakeReader) Read(_ time.Time, row []float64, counts []uint64) error {
	r.f.mu.Lock()
	block, err := r.f.block[r.id], r.f.fail[r.id]
	copy(row, r.f.row)
	copy(counts, r.f.counts)
	r.f.reads++
	r.f.mu.Unlock()
	if block != nil {
		<-block
	}
	return err
}

func (r *fakeReader) Close() error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.readers--
	return nil
}

// batcher is a fake that is batched.
type batcher struct {
	*fake
	err    error
	block  chan struct{}
	demand ft.Demand
	labels []string
}

func (b *batcher) Batch(ctx context.Context, _ time.Time) error {
	b.mu.Lock()
	block, err := b.block, b.err
	b.mu.Unlock()
	if block != nil {
		<-block
	}
	return errors.Join(err, ctx.Err())
}
func (b *batcher) Demand() ft.Demand { return b.demand }
func (b *batcher) Labels() []string  { return b.labels }

func instances(n int) []ft.Instance {
	in := make([]ft.Instance, n)
	for i := range in {
		in[i].Ref = ft.Ref{ID: ft.NewInstanceID("web", uint32(i+1)), Generation: 1}
	}
	return in
}

// bench drives a sampler in a synctest bubble: step passes a second and samples.
type bench struct {
	t  *testing.T
	s  *Sampler
	in []ft.Instance
	f  *ft.Frame
	w  strings.Builder
}

func newBench(t *testing.T, n int, sources ...ft.Source) *bench {
	t.Helper()
	b := &bench{t: t, in: instances(n)}
	s, err := New(slog.New(slog.NewTextHandler(&b.w, nil)), sources...)
	if err != nil {
		t.Fatal(err)
	}
	b.s, b.f = s, &ft.Frame{Schema: s.Schema()}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) step(d time.Duration) {
	b.t.Helper()
	time.Sleep(d)
	b.f.Rows = make([]ft.Row, len(b.in))
	b.f.Reset(len(b.in))
	if err := b.s.Sample(b.t.Context(), time.Now(), b.in, b.f); err != nil {
		b.t.Fatal(err)
	}
}

// row is what the frame has of instance i, as text: column=value.
func (b *bench) row(i int) string {
	var s []string
	for c := range b.f.Schema.Len() {
		s = append(s, fmt.Sprintf("%s=%.4g", b.f.Schema.At(c).Name, b.f.Value(i, c)))
	}
	return strings.Join(s, " ")
}

func (b *bench) want(i int, want string) {
	b.t.Helper()
	if got := b.row(i); got != want {
		b.t.Errorf("row %d is %s, want %s", i, got, want)
	}
}

func counter(name string) ft.Dimension {
	return ft.Dimension{Name: name, Unit: "1/s", Role: ft.Response, Transform: ft.Log1p, Kind: ft.Counter}
}

func gauge(name string) ft.Dimension { return ft.Dimension{Name: name, Role: ft.Response} }
