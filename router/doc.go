// Package router serves the pools' requests: a data plane in a process of its own, and its control side.
//
// The data plane ([Serve], [Main]) is the same binary re-executed, in a session of its own. It outlives the daemon and
// goes on by its last table when the daemon is gone, with its own readiness probes and passive health. The control
// side ([Front]) lives in the daemon: it listens, hands the listening sockets over, publishes the tables, reads the
// counters, hears who does not answer, and starts a new router with the same sockets and tables when one dies. Both
// hold the listening sockets, so no connection is refused while either is replaced.
//
// # What the data plane does
//
// HTTP/1.1 and 1.0, streamed both ways and flushed as it comes, with trailers, 100-continue, and upgrades (WebSocket).
// Requests with a key stay on their instance by bounded-load rendezvous hashing; others go where least is in flight.
// What no instance can take waits in a bounded queue, then gets 503 with Retry-After. Connection failures in a row
// eject an instance (plain 5xx do not: they are the application's answers, for the brain to judge); one that takes
// requests and answers nothing is taken out early and reported. A request is sent again elsewhere where nobody
// listened (up to twice, as that costs nobody anything), and, once and within the budget, where nothing of it was
// sent or it may be sent twice (RFC 9110, 9.2.2) and no byte of an answer came. So two instances see a request at most.
// One that was alone in an instance that died is sent to no other, unless Route.RetryAfterDeath allows it: it may be what
// the instance died of. Planned actions do not meet this: an instance is drained before it ends.
//
// Answers that the router makes itself have the header X-Fettle-Error: refused, reset, timeout, queue-full or
// no-instance. All answers have X-Fettle-Instance, the instance that answered or failed, where there was one.
//
// # Control protocol, version 2
//
// On a unix stream socket in a directory of mode 0700, between processes of one user (SO_PEERCRED, checked by both).
// A message is its length in four bytes, big-endian, at most 16 MiB, and JSON. Where it says "listener", the
// descriptor of a listening socket comes along (SCM_RIGHTS). The control side asks, the router answers in order, one
// at a time on each connection; errors have a text and a kind.
//
//	hello     the protocol's version, the process, and all tables                     these three never change, so
//	listener  the listening socket of a pool                                          that any version can take over
//	shutdown  no new connections; requests in flight may finish, then the process ends from any other
//	apply     a pool's table, with a listener where it is new. Declarative and idempotent; refused as a conflict
//	          where its epoch is less than the present one's
//	close     ends a pool
//	ready     answers when requests can reach a member, or at the deadline
//	drain     answers when a member has nothing in flight, or at the deadline
//	counters  the cumulative counts of a pool, all members at once, in a binary form (wire.Counters)
//	stats     the totals of a pool
//	events    from here on the router sends: who does not answer, first those of now, who answers again, and an empty
//	          message each second
package router
