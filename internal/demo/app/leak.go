package app

import (
	"runtime/debug"
	"sync"
	"time"
)

// leak is memory that is taken and never given back. A soft reset does not know of it.
type leak struct {
	mu   sync.Mutex
	runs bool     // guarded by mu
	rate float64  // bytes a second; guarded by mu
	held [][]byte // guarded by mu
	size int64    // guarded by mu
}

// start leaks at the rate for as long as the process lives; a second call changes the rate.
func (l *leak) start(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
	if !l.runs {
		l.runs = true
		go l.run()
	}
}

// mend gives all of it back and tells whether there was any.
func (l *leak) mend() bool {
	l.mu.Lock()
	had := l.size > 0
	l.rate, l.held, l.size = 0, nil, 0
	l.mu.Unlock()
	if had {
		debug.FreeOSMemory()
	}
	return had
}

func (l *leak) run() {
	const every = 50 * time.Millisecond
	for range time.Tick(every) {
		l.grow(every)
	}
}

// grow takes and touches what is due for a span.
func (l *leak) grow(span time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return
	}
	b := make([]byte, int(l.rate*span.Seconds()))
	for i := 0; i < len(b); i += 512 {
		b[i] = 1
	}
	l.held = append(l.held, b)
	l.size += int64(len(b))
}

func (l *leak) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}
