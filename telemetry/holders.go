package telemetry

import "sync"

// holders tell how many instances would read one and the same thing, which could not be told apart then. An instance may
// be attached to several times. The zero value is ready; it is safe for concurrent use.
type holders[K, V comparable] struct {
	mu sync.Mutex
	by map[K]map[V]int
}

func (s *holders[K, V]) add(thing K, who V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[K]map[V]int{}
	}
	if s.by[thing] == nil {
		s.by[thing] = map[V]int{}
	}
	s.by[thing][who]++
}

func (s *holders[K, V]) remove(thing K, who V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.by[thing]
	if all[who]--; all[who] <= 0 {
		delete(all, who)
	}
	if len(all) == 0 {
		delete(s.by, thing)
	}
}

// count is how many instances have it.
func (s *holders[K, V]) count(thing K) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by[thing])
}
