package app

import (
	"container/list"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// store is the data with the cache of rendered items and the one lock before both. A soft reset makes a new one.
type store struct {
	loaded  atomic.Pointer[dataset]
	slow    atomic.Int64 // the fault: nanoseconds that the lock is held for nothing
	forgets atomic.Bool  // the fault: nothing is found in the cache, and what it held is far to fetch

	mu    sync.Mutex
	cache lru // guarded by mu
}

func newStore(d *dataset) *store {
	s := &store{cache: newLRU(d.conf.Cache)}
	s.loaded.Store(d)
	return s
}

func (s *store) data() *dataset { return s.loaded.Load() }

// locked runs f under the lock.
func (s *store) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := time.Duration(s.slow.Load()); d > 0 {
		time.Sleep(d)
	}
	f()
}

// item renders an item, from the cache where it can.
func (s *store) item(key string) ([]byte, bool) {
	d := s.data()
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	var b []byte
	s.locked(func() { b = s.cache.get(key) })
	if b != nil && !s.forgets.Load() {
		hash(key, 3*d.conf.Rounds)
		return b, true
	}
	rounds := 7
	if s.forgets.Load() {
		rounds = 30
	}
	b = render(d.items[i], rounds*d.conf.Rounds)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.put(key, b)
	return b, true
}

// search gives the keys of the first ten items that hold the word.
func (s *store) search(word string) []byte {
	d := s.data()
	s.locked(func() {})
	h := hash(word, 2*d.conf.Rounds)
	found := []string{}
	for n, i := 0, int(h[0])*8; n < len(d.items) && len(found) < 10; n, i = n+1, i+1 {
		it := d.items[i%len(d.items)]
		if strings.Contains(it.Text, word) && it.Numbers[0] < 0.05 {
			found = append(found, it.Key)
		}
	}
	return encode(map[string]any{"q": word, "found": found})
}

// report renders an item and its neighbours.
func (s *store) report(key string) ([]byte, bool) {
	d := s.data()
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	s.locked(func() {})
	const neighbours = 8
	parts := make([]json.RawMessage, neighbours)
	for k := range parts {
		parts[k] = render(d.items[(i+k*7)%len(d.items)], 4*d.conf.Rounds)
	}
	return encode(map[string]any{"report": key, "items": parts}), true
}

func render(it *item, rounds int) []byte {
	h := hash(it.Text, rounds)
	sum := 0.0
	for _, v := range it.Numbers {
		sum += v
	}
	return encode(map[string]any{"item": it, "sum": sum, "digest": hex.EncodeToString(h[:])})
}

// encode cannot fail on the maps, strings and finite numbers that it is given.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Appendf(nil, `{"error":%q}`, err)
	}
	return b
}

// lru keeps the most recently used values, at most size of them. Not safe for concurrent use.
type lru struct {
	size  int
	order *list.List // of lruEntry, most recent first
	at    map[string]*list.Element
}

type lruEntry struct {
	key   string
	value []byte
}

func newLRU(size int) lru {
	return lru{size: size, order: list.New(), at: make(map[string]*list.Element, size)}
}

func (c *lru) get(key string) []byte {
	e, ok := c.at[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(lruEntry).value
}

func (c *lru) put(key string, value []byte) {
	c.drop(key)
	c.at[key] = c.order.PushFront(lruEntry{key, value})
	if c.order.Len() > c.size {
		c.drop(c.order.Back().Value.(lruEntry).key)
	}
}

func (c *lru) drop(key string) {
	if e, ok := c.at[key]; ok {
		c.order.Remove(e)
		delete(c.at, key)
	}
}

// counts is the application's state: how many notes each item got. It outlives soft resets.
type counts struct {
	mu sync.Mutex
	by map[string]int // guarded by mu
}

func (c *counts) add(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[string]int, Items)
	}
	c.by[key]++
	return c.by[key]
}

func (c *counts) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}
