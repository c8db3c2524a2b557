package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
)

// What is off takes no column and is told; where another source measures it, nothing is missing.
func TestWhatIsOffTakesNoColumn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Absent("off: telemetry.network", "out", "g"), &fake{dims: []ft.Dimension{gauge("g")}, row: []float64{1}})
		b.step(time.Second)
		b.want(0, "g=1")
		if diff := cmp.Diff(ft.Unavailable{"out": "off: telemetry.network"}, b.s.Unavailable(b.in[0].Ref)); diff != "" {
			t.Error(diff)
		}
	})
}

// reporting is a fake whose readers find out what is missing as they go on.
type reporting struct {
	fake
	now ft.Unavailable
}

type reporter struct {
	ft.Reader
	r *reporting
}

func (r *reporting) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	rd, missing, err := r.fake.Attach(in)
	return &reporter{rd, r}, missing, err
}

func (r *reporter) Missing() ft.Unavailable {
	r.r.mu.Lock()
	defer r.r.mu.Unlock()
	return r.r.now
}

func TestReadersTellWhatTheyFindOutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &reporting{fake: fake{dims: []ft.Dimension{gauge("g"), gauge("h")}, row: []float64{1, 2}, missing: ft.Unavailable{"h": "never"}}}
		b := newBench(t, 1, src)
		want := func(u ft.Unavailable) {
			t.Helper()
			b.step(time.Second)
			if diff := cmp.Diff(u, b.s.Unavailable(b.in[0].Ref)); diff != "" {
				t.Error(diff)
			}
		}
		want(ft.Unavailable{"h": "never"})
		src.mu.Lock()
		src.now = ft.Unavailable{"g": "no answer"}
		src.mu.Unlock()
		want(ft.Unavailable{"g": "no answer", "h": "never"})
		src.mu.Lock()
		src.now = nil
		src.mu.Unlock()
		want(ft.Unavailable{"h": "never"})
	})
}

// A reason says what is so, not whom it is about.
func TestReasons(t *testing.T) {
	for want, err := range map[string]error{
		"the instance has no process":          fmt.Errorf("measure web-1 by /proc: %w", errNoProcess),
		"no such device":                       fmt.Errorf("no such device: %w", ft.ErrUnavailable),
		"not available here":                   ft.ErrUnavailable,
		"process 7: it is gone":                fmt.Errorf("measure web-1: %w", fmt.Errorf("process 7: %w", errors.New("it is gone"))),
		"measure web-1: permission denied":     fmt.Errorf("measure web-1: %w", fs.ErrPermission),
		"the instance has no control group of": nil,
	} {
		if err == nil {
			_, _, err = Cgroup().Attach(ft.Instance{Ref: ft.Ref{ID: "web-1"}})
			want += " its own"
		}
		if got := reason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
