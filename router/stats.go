package router

import "github.com/fettle-dev/fettle/router/internal/wire"

// Stats are a pool's totals since the router began: requests, answers by class, what was lost and why, retries,
// queue, and the members.
type Stats = wire.Stats

// MemberStats are the totals of one instance.
type MemberStats = wire.MemberStats
