// Package middle leads from the core to the store.
package middle

import "planted/store"

func Value() int { return store.Value }
