// Package tune chooses settings and judges trials of them.
package tune

import (
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Trial is a setting under observation.
type Trial struct {
	Setting ft.Setting `json:"setting"`
	Was     ft.Setting `json:"was"`
	Since   time.Time  `json:"since"`
}
