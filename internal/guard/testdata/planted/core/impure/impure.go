// Package impure breaks every rule of the core once.
package impure

import (
	"math/rand/v2"
	"os"
	"time"

	"planted/core/middle"
)

func All(m map[string]int) time.Time {
	c := make(chan int)
	go func() { c <- rand.IntN(3) + middle.Value() }()
	for k := range m {
		os.Remove(k)
	}
	return time.Now()
}
