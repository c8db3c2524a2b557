// Package bpf loads the eBPF programs that see the network traffic, the calls to others and the system calls of
// instances, and hands out the memory that they count in.
//
// A process is a member of a slot. [Set.Join] makes it one by a descriptor of the process, so that a number that another
// process has by now is never taken for it; from then on the kernel itself hands membership on at each fork, and to the
// thread that calls exec. Membership ends with the process. A slot that is given to another owner gets a new serial: all
// that is left of the former owner, processes and sockets, does not fit it any more and counts for nobody.
//
// Slots are rows of array maps that are mapped into this process: reading a counter is a load from memory. Chunks of 256
// of them are made as they are needed. All counters only grow while the serial stays the same.
//
//	program         runs at                  does
//	sock_state      inet_sock_set_state      who opened or accepted a connection, and whose it is; failures; last counts of one that ends
//	conns_tallied   a look                   adds what the kernel counted of each connection: bytes, segments
//	files_passed    a pass over open files   finds the sockets that are older than membership, or were handed on
//	sock_sent       sock_send_length         a request begins; bytes of UDP; whose a connection of a shared listener is
//	sock_received   sock_recv_length         the same for what is received; an answer was read
//	sock_ready      sk_data_ready            an answer arrived
//	task_forked     sched_process_fork       membership of children
//	task_exited     sched_process_exit       membership of a process whose first thread ended
//	task_executed   sched_process_exec       and whose other thread calls exec
//	call_entered    sys_enter                system calls by number
//
// What runs at each message or system call takes its time from whoever sends and receives, also where it has nothing to do: a
// tracepoint with an empty program costs a request to a Redis more than a hundredth. So sock_sent, sock_received and sock_ready are
// attached by [Set.Demand] only, and call_entered while [Set.CountCalls] counts.
//
// Nothing is pinned: programs and maps go with the process that loaded them. What a kernel does not offer is missing
// from the set alone, and [Set.Missing] says why.
package bpf
