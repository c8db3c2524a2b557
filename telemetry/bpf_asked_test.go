package telemetry

import (
	"log/slog"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Who asks is told of 200 ms at least, also where the pools' bursts are shorter.
func TestWhatIsAskedForIsCountedLongEnough(t *testing.T) {
	if why := newProbes(t).noCalls(); why != "" {
		t.Skip(why)
	}
	p, err := openProbes(slog.New(slog.DiscardHandler), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.bursts.join(ft.Syscalls{Budget: 0.5, Burst: ft.Duration(10 * time.Millisecond)})
	defer p.bursts.leave()
	for range 5 { // one that a burst was about to serve anyway gets that
		before := p.bursts.total()
		if err := p.bursts.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.bursts.total()-before >= defaultLength {
			return
		}
	}
	t.Error("what was asked for was counted for less than 200 ms, five times")
}
