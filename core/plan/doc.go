// Package plan is the planner of one pool: the pure brain that decides. [State] folds events and nothing else;
// [State.Next] reads it and returns decisions, which are events too: the loop journals them and folds them in, so that
// the same events always give the same state, in life, in replay and in simulation.
//
//	facts (exits, verdicts, outcomes, commands) --Apply--> State --Next--> decisions --journal, Apply--> State
//
// What is decided is an operation (Opened), its steps one by one (Intended, then the executor's Finished), and its end
// (Closed). See the tables of phases and of operations beside their types. A decision not to act is said once
// (Declined), a brake that closes or opens is said (Braked), and so is the end of a story (Recovered).
//
// # Order
//
// For each instance that is due: what is dead is started anew (the same ID and a new generation, so that its keys and
// its count of restarts stay with it; after four failed starts it is cleared away and another ID takes its place); what
// does not answer is replaced; what was begun is finished; what people ask is done; what drifts climbs the ladder of
// core/mitigate. Then the pool is kept at its size.
//
// # What acts in which mode
//
// Exits, probes and absolute limits act in every mode, also in observe, while learning, when paused, in the hold-off and
// with the breaker on: the user asked for them in the pool file and a dead instance serves nobody. Drift is only
// explained in observe; tune adds settings, reload hooks and rebaselines; heal adds resets and replacement. A limit that
// is crossed by an instance that still serves waits for its turn and never takes the last one in service.
//
// # Brakes
//
// Planned operations: at most Heal.Concurrent at once; at most Heal.PerHour begun within an hour by drift, and by people
// at least as many as the pool has instances; none while paused, in the hold-off, with the breaker on, when starts fail
// in a row, or while the journal fails. None takes the last instance out of service while another could be started: a
// full reset becomes an eviction, before a soft reset one more is started that goes again when all is quiet. Where there
// is no room, requests wait in the router's queue, and the reason says so.
//
// # Cost
//
// Next visits instances that are due, not all: each has a time at which it could want something, kept in a heap that
// only Apply changes. Nothing ranges over maps.
package plan
