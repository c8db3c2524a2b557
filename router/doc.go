// Package router serves the pools' requests: a data plane in a process of its own, and its control side.
//
// The data plane ([Serve], [Main]) is the same binary re-executed. It outlives the daemon and goes on by its last
// table when the daemon is gone. The control side ([Front]) lives in the daemon: it listens, hands the listening
// sockets over, publishes the table, reads the counters, and starts a new router with the same sockets when one dies.
package router
