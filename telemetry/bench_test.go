package telemetry

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	peer "github.com/prometheus/procfs"

	ft "github.com/fettle-dev/fettle"
)

// sleeper is a process of one thread that another wrote.
func sleeper(b *testing.B) ft.Instance {
	b.Helper()
	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "600"}, &os.ProcAttr{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = p.Kill()
		_, _ = p.Wait()
	})
	return ft.Instance{Ref: ft.Ref{ID: "web-1", Generation: 1}, Scope: ft.Scope{PID: p.Pid}}
}

// BenchmarkProcess compares one reading of one process, all columns of ProcFS, with the same fields read by
// prometheus/procfs.
func BenchmarkProcess(b *testing.B) {
	b.Run("fettle", func(b *testing.B) {
		r := attachTo(b, sleeper(b))
		row := make([]float64, procColumns)
		now := time.Now()
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(time.Millisecond)
			if err := r.Read(now, row, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("prometheus-procfs", func(b *testing.B) {
		pid := sleeper(b).Scope.PID
		fs, err := peer.NewDefaultFS()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			p, err := fs.Proc(pid)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := p.Stat(); err != nil {
				b.Fatal(err)
			}
			if _, err := p.Statm(); err != nil {
				b.Fatal(err)
			}
			if _, err := p.IO(); err != nil {
				b.Fatal(err)
			}
			if _, err := p.Schedstat(); err != nil {
				b.Fatal(err)
			}
			if _, err := p.FileDescriptorsLen(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSample is a whole tick of pools of processes of one thread: the cost of one instance is that divided by
// their number.
func BenchmarkSample(b *testing.B) {
	for _, n := range []int{1, 20} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s, err := New(slog.New(slog.DiscardHandler), Cgroup(), ProcFS())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			in := make([]ft.Instance, n)
			for i := range in {
				in[i] = sleeper(b)
				in[i].ID = ft.NewInstanceID("web", uint32(i+1))
			}
			f := &ft.Frame{Schema: s.Schema(), Rows: make([]ft.Row, n)}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Second)
				f.Reset(n)
				if err := s.Sample(context.Background(), now, in, f); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/instance")
		})
	}
}

// BenchmarkWorkingSet is one interval of a process with so much in use: what the calls take, and with what they do to the
// application what an interval must be for it to be within the default budget.
func BenchmarkWorkingSet(b *testing.B) {
	if err := WorkingSetError(); err != nil {
		b.Skip(err)
	}
	for _, size := range []int{8, 64, 256, 1024} {
		b.Run(strconv.Itoa(size)+"MiB", func(b *testing.B) {
			c := newChild(b)
			c.do("region " + strconv.Itoa(size<<20))
			s := subjectOf(b, quick(), c.instance())
			b.ResetTimer()
			cost := 0.0
			for b.Loop() {
				s.round(b, func() {}, func() { c.do("touch 0 " + strconv.Itoa(size)) })
				cost += s.cost
			}
			mean := cost / float64(b.N)
			b.ReportMetric(s.own*1e3, "ms-own/interval")
			b.ReportMetric(mean*1e3, "ms-in-all/interval")
			b.ReportMetric(mean/0.001, "s-interval")
		})
	}
}
