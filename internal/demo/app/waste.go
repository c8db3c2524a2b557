package app

import (
	"os"
	"sync"
	"time"
)

// waste is what is used up for nothing: CPU time and descriptors.
type waste struct {
	mu    sync.Mutex
	stop  chan struct{}  // ends what runs; guarded by mu
	wg    sync.WaitGroup // of what runs
	files []*os.File     // only of the goroutine in wg, and of mend after it
}

// begin runs step once in each span, until mend.
func (w *waste) begin(every time.Duration, step func()) {
	w.mend()
	w.mu.Lock()
	defer w.mu.Unlock()
	stop := make(chan struct{})
	w.stop = stop
	w.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				step()
			}
		}
	})
}

// spin burns a share of a core.
func (w *waste) spin(cores float64) {
	const every = 50 * time.Millisecond
	w.begin(every, func() {
		for from := time.Now(); time.Since(from) < time.Duration(cores*float64(every)); {
			hash("spin", 1)
		}
	})
}

// open opens so many descriptors a second.
func (w *waste) open(rate float64) {
	w.begin(time.Duration(float64(time.Second)/rate), func() {
		if f, err := os.Open(os.DevNull); err == nil {
			w.files = append(w.files, f)
		}
	})
}

// mend ends it and closes the descriptors.
func (w *waste) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop == nil {
		return
	}
	close(w.stop)
	w.stop = nil
	w.wg.Wait()
	for _, f := range w.files {
		_ = f.Close() // of /dev/null
	}
	w.files = nil
}
