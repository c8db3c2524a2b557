package daemon

import "sync"

// bell wakes all who wait for the next ring. Rings while nobody waits are not remembered: who waits takes the channel
// first, then looks, then waits.
type bell struct {
	mu sync.Mutex
	c  chan struct{} // guarded by mu; closed by the next ring
}

func newBell() *bell { return &bell{c: make(chan struct{})} }

// next is closed by the next ring.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.c)
	b.c = make(chan struct{})
}
