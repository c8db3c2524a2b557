package plan

import (
	"math"
	"slices"
	"time"
)

// never is the due time of a member that waits for an event.
const never = math.MaxInt64

// heap orders members by when they are due. It is changed by folding events only: reading what is due walks from the
// top and takes nothing out, so that asking for decisions changes nothing.
type heap []*member

// fix restores the order after a member's due time changed, and takes it in if it is not there.
func (h *heap) fix(m *member) {
	if m.at < 0 {
		m.at = len(*h)
		*h = append(*h, m)
	}
	h.up(m.at)
	h.down(m.at)
}

// drop takes a member out.
func (h *heap) drop(m *member) {
	i, last := m.at, len(*h)-1
	if i < 0 {
		return
	}
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		moved := (*h)[i]
		h.up(moved.at)
		h.down(moved.at)
	}
	m.at = -1
}

func (h heap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h heap) up(i int) {
	for i > 0 && h[i].due < h[(i-1)/2].due {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h heap) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].due < h[least].due {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

// dueBy appends the members due at now, by serial, and gives the earliest later due time.
func (h heap) dueBy(dst []*member, now time.Time) (due []*member, next int64) {
	next = never
	at := now.UnixNano()
	var stack [64]int
	todo := append(stack[:0], 0)
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if i >= len(h) {
			continue
		}
		if h[i].due > at {
			next = min(next, h[i].due)
			continue
		}
		dst = append(dst, h[i])
		todo = append(todo, 2*i+2, 2*i+1)
	}
	slices.SortFunc(dst, func(a, b *member) int { return int(a.serial()) - int(b.serial()) })
	return dst, next
}
