package wire

import (
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Stats are a pool's totals since the router began.
type Stats struct {
	Pool     ft.PoolName `json:"pool"`
	Address  string      `json:"address"`
	PID      int         `json:"pid"`
	Since    time.Time   `json:"since"`
	Requests uint64      `json:"requests"` // that arrived
	// Status counts the answers by class: "2xx" to "5xx", those that the router made itself included.
	Status map[string]uint64 `json:"status"`
	// Lost counts the answers that the router had to make itself, by kind: refused, reset, timeout, queue-full, no-instance.
	Lost map[string]uint64 `json:"lost"`
	// Broken counts responses whose instance failed after they had begun.
	Broken uint64 `json:"broken"`
	// Cut counts requests and streams that ended because their instance was removed with them in flight.
	Cut        uint64 `json:"cut"`
	ClientGone uint64 `json:"clientGone"` // the client hung up first
	Retries    uint64 `json:"retries"`    // sent again elsewhere
	Denied     uint64 `json:"denied"`     // retries that the budget did not allow
	Queued     int    `json:"queued"`     // waiting now
	Waited     uint64 `json:"waited"`     // that had to wait
	InFlight   int    `json:"inFlight"`
	LogDropped uint64 `json:"logDropped"` // lines of the access log for which there was no room
	// Ejected are the members that are out of routing now because they failed.
	Ejected []ft.Ref      `json:"ejected"`
	Members []MemberStats `json:"members"`
}

// MemberStats are the totals of one instance.
type MemberStats struct {
	Ref      ft.Ref      `json:"ref"`
	Endpoint ft.Endpoint `json:"endpoint"`
	State    string      `json:"state"`  // routed, warming, draining, unready, refusing, ejected, silent
	Weight   float64     `json:"weight"` // effective: slow start lowers it
	InFlight int         `json:"inFlight"`
	Requests uint64      `json:"requests"` // that it was given
	Errors   uint64      `json:"errors"`   // answered with 5xx
	Lost     uint64      `json:"lost"`     // not answered
	// Status counts its answers by class, "1xx" to "5xx", and as "none" what it did not answer, or not to the end.
	Status    map[string]uint64 `json:"status"`
	Offered   float64           `json:"offered"` // meant for it by key or fair share
	BytesIn   uint64            `json:"bytesIn"`
	BytesOut  uint64            `json:"bytesOut"`
	Ejections uint64            `json:"ejections"`
	P50       float64           `json:"p50"` // seconds, 0 where nothing was answered yet
	P99       float64           `json:"p99"` // seconds
}
