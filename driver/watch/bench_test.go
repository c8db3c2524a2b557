package watch

import (
	"os/exec"
	"testing"
	"time"

	"github.com/fettle-dev/fettle/internal/procfs"
)

// crowd starts n more processes.
func crowd(b *testing.B, n int) {
	b.Helper()
	for range n {
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	}
}

// BenchmarkLook is one look for command lines on a machine with some hundred processes, as every two seconds, and one
// at which all are read again, as every thirty.
func BenchmarkLook(b *testing.B) {
	crowd(b, 300)
	for _, c := range []struct {
		name string
		age  time.Duration
	}{{"usual", time.Second}, {"all", time.Hour}} {
		b.Run(c.name, func(b *testing.B) {
			m, err := newMatcher("sleep 10.*", map[int]bool{})
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now().Add(-time.Hour)
			for _, at := range []time.Duration{0, 2 * settled} {
				if _, _, err := m.look(now.Add(at)); err != nil {
					b.Fatal(err)
				}
			}
			at := now.Add(2 * settled)
			for b.Loop() {
				if c.age > time.Minute {
					m.read = time.Time{}
				}
				if _, _, err := m.look(at); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(procfs.List(nil))), "processes")
		})
	}
}
