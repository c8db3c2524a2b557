//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* What Fettle sees of an instance's network traffic, of its calls to others and of its system calls. Package bpf, which
 * loads this, says what each program is for and what is read how. */
#include "kernel.h"

char _license[] SEC("license") = "GPL";

enum {
	AF_INET = 2,
	AF_INET6 = 10,
	SOCK_DGRAM = 2,
	IPPROTO_TCP = 6,
	IPPROTO_MPTCP = 262,
	SOCK_DONE = 1, /* the other side has sent its end */
	MSG_PEEK = 0x2,
	MSG_ERRQUEUE = 0x2000,
	SHUTDOWN_MASK = 3,
	TS_COMPAT = 2, /* x86: in a 32 bit system call */
};

/* States of include/net/tcp_states.h. */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LISTEN = 10,
};

#define CHUNK 256 /* slots of one inner map */
#define CHUNKS 64
#define LOADER 0 /* the slot of who loaded this, whose children are others' */
#define PEERS 16 /* destinations of one slot */
#define OTHER PEERS /* the row of a connection whose destination has none */
#define CREDIT 1024 /* the most that a destination can be ahead of a newcomer */
#define CALLS 512 /* system call numbers that are counted one by one */
#define PATIENCE 10000000 /* ns: who closes sooner after a request wanted no answer */

/* A member is a process that counts for a slot. The serial is of the slot's present owner: what is left of a former one
 * does not fit any more. */
struct member {
	__u32 slot;
	__u32 serial;
};

/* A destination. The address is that of IPv6, or of IPv4 mapped into it; port 0 is a free row. The epoch grows by one
 * before the row is given to another destination, which makes it odd, and by one after that. */
struct peer {
	__u64 address[2];
	__u32 port;
	__u32 epoch;
	__u32 credit;
	__u32 unused2;
	__u64 started;
	__u64 answered;
	__u64 waited; /* ns, of those answered */
	__u64 failed;
};

struct slot {
	__u32 serial; /* 0: free */
	__u32 lock; /* 1 while a row of peers is given to another destination */
	__u64 sent; /* bytes */
	__u64 received;
	__u64 sends;
	__u64 receives;
	__u64 accepted;
	__u64 opened;
	__u64 resent; /* segments */
	__u64 started;
	__u64 answered;
	__u64 waited;
	__u64 failed;
	__u64 unused[4];
	struct peer peers[PEERS];
};

struct calls {
	__u64 serial;
	__u64 other;
	__u64 of[CALLS];
};

enum state { IDLE, CONNECTING, WAITING }; /* of a connection that the member opened */
enum direction { UNKNOWN, OPENED, ACCEPTED };

/* A TCP socket of a member, or one that may become that. The kernel copies what a listener has to the connections that it
 * accepts, so that they have an owner from their first moment. */
struct conn {
	__u32 slot;
	__u32 serial; /* 0: nobody's yet */
	__u64 since; /* ns: when the request was sent */
	__u64 last; /* ns: when something was sent last */
	__u32 state;
	__u32 row;
	__u32 epoch; /* of the row */
	__u32 direction;
	__u32 pass; /* over all files in which it was found last; 0: none */
	__u32 found; /* the serial of who had it in that pass; 0: more than one */
	/* As of the last look. */
	__u64 sent;
	__u64 received;
	__u32 sends;
	__u32 receives;
	__u32 resent;
	__u32 unused;
};

/* What the loader and the programs tell each other. */
struct control {
	__u32 pass; /* which one over all files it is; 0: over those of one process */
	__u32 calls; /* 1 while programs run at each message for the sake of calls */
	/* Sockets that a pass found, and connections that a look found open. */
	__u32 opened;
	__u32 datagrams;
	__u32 unclear; /* listeners that are not known to be one slot's */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct member);
} members SEC(".maps");

/* Of processes whose first thread has ended, by number: exec makes another thread the first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct member);
} heirs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} controls SEC(".maps");

/* Wakes the loader when a connection is opened that no program looks at yet. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16); /* a page at least, whatever its size */
} news SEC(".maps");

struct slots_chunk {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CHUNK);
	__type(key, __u32);
	__type(value, struct slot);
} slots_chunk SEC(".maps");

/* Chunks are made as slots are needed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, CHUNKS);
	__type(key, __u32);
	__array(values, struct slots_chunk);
} slots SEC(".maps");

struct calls_chunk {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CHUNK);
	__type(key, __u32);
	__type(value, struct calls);
} calls_chunk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, CHUNKS);
	__type(key, __u32);
	__array(values, struct calls_chunk);
} calls SEC(".maps");

#define add(counter, n) __sync_fetch_and_add(counter, n)

/* Both are seen in the order of the program by all processors: plain loads and stores are not. */
#define store_ordered(at, v) __sync_lock_test_and_set(at, v)
#define load_ordered(at) __sync_val_compare_and_swap(at, 0, 0)

static __always_inline struct member *member_of(struct task_struct *leader)
{
	return bpf_task_storage_get(&members, leader, 0, 0);
}

static __always_inline struct member *current_member(void)
{
	struct task_struct *t = bpf_get_current_task_btf();
	return member_of(t->group_leader);
}

static __always_inline struct slot *slot_at(__u32 slot, __u32 serial)
{
	__u32 chunk = slot / CHUNK, row = slot % CHUNK;
	void *inner = bpf_map_lookup_elem(&slots, &chunk);
	if (!inner)
		return 0;
	struct slot *s = bpf_map_lookup_elem(inner, &row);
	return s && serial && s->serial == serial ? s : 0;
}

static __always_inline struct slot *slot_of(struct conn *c)
{
	return slot_at(c->slot, c->serial);
}

static __always_inline struct control *control(void)
{
	__u32 only = 0;
	return bpf_map_lookup_elem(&controls, &only);
}

static __always_inline bool internet(const struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;
	return family == AF_INET || family == AF_INET6;
}

static __always_inline struct conn *conn_of(struct sock *sk)
{
	return bpf_sk_storage_get(&conns, sk, 0, 0);
}

/* Who opened the connection of a TCP socket. Where that was not seen, what is certain: sockets that come from accept are
 * copies of the listener and keep its backlog, unless that is 0; and a port that connect chose is nobody's to listen on. */
static __always_inline __u32 direction(struct sock *sk, struct conn *c)
{
	if (c)
		return c->direction;
	if (sk->sk_max_ack_backlog != 0)
		return ACCEPTED;
	struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
	return t && t->inet_conn.icsk_bind_hash->fastreuse < 0 ? OPENED : UNKNOWN;
}

/* What the kernel counts of a connection. */
struct counts {
	__u64 sent, received; /* bytes */
	__u32 sends, receives, resent; /* segments with data; those that were sent again */
};

static __always_inline struct counts counts(struct sock *sk, struct tcp_sock *t)
{
	__u32 resent = t->total_retrans;
	__u64 again = t->bytes_retrans;
	/* The end of what the other side sends takes one number, which counts as a byte. */
	return (struct counts){
		.sent = t->bytes_sent - again,
		.received = t->bytes_received - (sk->__sk_common.skc_flags >> SOCK_DONE & 1),
		.sends = t->data_segs_out - resent,
		.receives = t->data_segs_in,
		.resent = resent,
	};
}

/* Leaves what was counted so far out. */
static __always_inline void begin(struct conn *c, struct counts n)
{
	c->sent = n.sent;
	c->received = n.received;
	c->sends = n.sends;
	c->receives = n.receives;
	c->resent = n.resent;
}

/* Moves what was seen up to what is now, and tells by how much. Looks can be under way on several processors at once, and
 * the kernel does not count all in one step: what ran backwards is counted once it is ahead again. */
#define gained(seen, now) ({ \
	__typeof__(now) gain_ = 0; \
	for (int i_ = 0; i_ < 4; i_++) { \
		__typeof__(now) was_ = *(volatile __typeof__(now) *)(seen); \
		__typeof__(now) step_ = (now) - was_; \
		if (!step_ || step_ >> (sizeof(now) * 8 - 1)) \
			break; \
		if (__sync_val_compare_and_swap(seen, was_, now) == was_) { \
			gain_ = step_; \
			break; \
		} \
	} \
	gain_; \
})

/* Adds what a connection did since the last look. */
static __always_inline void tally(struct sock *sk, struct conn *c, struct slot *s)
{
	struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
	if (!t)
		return;
	struct counts n = counts(sk, t);
	__u64 bytes = gained(&c->sent, n.sent);
	if (bytes)
		add(&s->sent, bytes);
	bytes = gained(&c->received, n.received);
	if (bytes)
		add(&s->received, bytes);
	__u32 segments = gained(&c->sends, n.sends);
	if (segments)
		add(&s->sends, segments);
	segments = gained(&c->receives, n.receives);
	if (segments)
		add(&s->receives, segments);
	segments = gained(&c->resent, n.resent);
	if (segments)
		add(&s->resent, segments);
}

static __always_inline void own(struct conn *c, struct member *m)
{
	c->slot = m->slot;
	c->serial = m->serial;
}

struct address {
	__u64 half[2];
	__u16 port;
};

static __always_inline void remote(const struct sock *sk, struct address *a)
{
	const struct sock_common *c = &sk->__sk_common;
	__u32 w[4];
	if (c->skc_family == AF_INET) {
		w[0] = w[1] = 0;
		w[2] = bpf_htonl(0xffff);
		w[3] = c->skc_daddr;
	} else {
		w[0] = c->skc_v6_daddr.in6_u.u6_addr32[0];
		w[1] = c->skc_v6_daddr.in6_u.u6_addr32[1];
		w[2] = c->skc_v6_daddr.in6_u.u6_addr32[2];
		w[3] = c->skc_v6_daddr.in6_u.u6_addr32[3];
	}
	__builtin_memcpy(a->half, w, sizeof(w));
	a->port = bpf_ntohs(c->skc_dport);
}

static __always_inline bool holds(struct peer *p, struct address *a)
{
	return p->port == a->port && p->address[0] == a->half[0] && p->address[1] == a->half[1];
}

/* The row of an address, else that of the weakest destination, with 1 << 16 added. */
static __noinline __u32 scan(struct slot *s, struct address *a)
{
	__u32 weakest = 0, least = ~0u;
	if (!s || !a)
		return 0;
	for (__u32 i = 0; i < PEERS; i++) {
		struct peer *p = &s->peers[i];
		if (holds(p, a))
			return i;
		__u32 credit = p->port ? p->credit + 1 : 0;
		if (credit < least) {
			least = credit;
			weakest = i;
		}
	}
	return weakest | 1 << 16;
}

/* Gives a new destination a free row, or that of the weakest one once newcomers have used up its credit: so those with
 * most calls have rows in the end (Misra and Gries, 1982). The slot is locked. */
static __always_inline __u32 settle(struct slot *s, struct address *a)
{
	__u32 i = scan(s, a);
	struct peer *p = &s->peers[i & (PEERS - 1)];
	if (!(i >> 16))
		return i;
	if (p->port && p->credit) {
		p->credit--;
		return OTHER;
	}
	__u32 epoch = p->epoch;
	store_ordered(&p->epoch, epoch + 1);
	p->address[0] = a->half[0];
	p->address[1] = a->half[1];
	p->credit = p->started = p->answered = p->waited = p->failed = 0;
	p->port = a->port;
	store_ordered(&p->epoch, epoch + 2);
	return i & (PEERS - 1);
}

/* Gives the connection the row of its destination. */
static __always_inline void resolve(struct sock *sk, struct conn *c, struct slot *s)
{
	struct address a = {};
	remote(sk, &a);
	c->row = OTHER;
	__u32 i = scan(s, &a);
	if (i >> 16) {
		if (__sync_val_compare_and_swap(&s->lock, 0, 1) != 0)
			return;
		i = settle(s, &a);
		store_ordered(&s->lock, 0);
	}
	if (i >= PEERS)
		return;
	/* The row can be another's by now, so the epoch is read first. */
	struct peer *p = &s->peers[i];
	__u32 epoch = load_ordered(&p->epoch);
	if (epoch & 1 || !holds(p, &a))
		return;
	c->row = i;
	c->epoch = epoch;
}

static __always_inline struct peer *row_of(struct slot *s, struct conn *c)
{
	if (c->row >= PEERS)
		return 0;
	struct peer *p = &s->peers[c->row & (PEERS - 1)];
	return p->epoch == c->epoch ? p : 0;
}

/* Makes the connection one that the member opened. */
static __always_inline struct conn *open(struct sock *sk, struct member *m, struct slot *s, __u32 state)
{
	struct conn *c = conn_of(sk);
	if (!c || state == CONNECTING) {
		struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
		c = bpf_sk_storage_get(&conns, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!c || !t)
			return 0;
		begin(c, counts(sk, t));
	}
	own(c, m);
	c->direction = OPENED;
	c->state = state;
	c->since = c->last = bpf_ktime_get_ns();
	resolve(sk, c, s);
	return c;
}

static __always_inline void started(struct slot *s, struct conn *c)
{
	add(&s->started, 1);
	struct peer *p = row_of(s, c);
	if (!p)
		return;
	add(&p->started, 1);
	if (p->credit < CREDIT)
		p->credit++;
}

static __always_inline void answered(struct slot *s, struct conn *c)
{
	if (__sync_val_compare_and_swap(&c->state, WAITING, IDLE) != WAITING)
		return;
	__u64 took = bpf_ktime_get_ns() - c->since;
	add(&s->answered, 1);
	add(&s->waited, took);
	struct peer *p = row_of(s, c);
	if (p) {
		add(&p->answered, 1);
		add(&p->waited, took);
	}
}

static __always_inline void failed(struct slot *s, struct conn *c, __u32 state)
{
	if (__sync_val_compare_and_swap(&c->state, state, IDLE) != state)
		return;
	if (state == CONNECTING)
		started(s, c);
	add(&s->failed, 1);
	struct peer *p = row_of(s, c);
	if (p)
		add(&p->failed, 1);
}

/* It was no call after all. */
static __always_inline void withdrawn(struct slot *s, struct conn *c)
{
	if (__sync_val_compare_and_swap(&c->state, WAITING, IDLE) != WAITING)
		return;
	add(&s->started, -1);
	struct peer *p = row_of(s, c);
	if (p)
		add(&p->started, -1);
}

/* A member sent on a connection that it opened. */
static __always_inline void request(struct sock *sk, struct conn *c, struct member *m, struct slot *s)
{
	if (!c || c->serial != m->serial || c->slot != m->slot) {
		c = open(sk, m, s, IDLE); /* it is older than the slot */
		if (!c)
			return;
	}
	c->last = bpf_ktime_get_ns();
	if (c->state == WAITING)
		return;
	if (!row_of(s, c))
		resolve(sk, c, s);
	started(s, c);
	c->since = c->last;
	*(volatile __u32 *)&c->state = WAITING;
}

struct bytes {
	int received, sent;
};

/* A member received so many bytes, or tried to, or sent some, on a connection that it was called by and that has no owner.
 * It is new when nothing was read or sent before; the end of what the other side sends counts as one byte received. */
static __always_inline void accepted(struct sock *sk, struct conn *c, struct slot *s, struct member *m, struct bytes b)
{
	struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
	if (!t)
		return;
	__s64 had = (__s64)t->bytes_received - (__s64)(__s32)(t->rcv_nxt - t->copied_seq) - b.received;
	bool fresh = (!c || !c->serial) && had <= 1 && t->bytes_sent <= b.sent;
	bool known = c;
	c = bpf_sk_storage_get(&conns, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!c)
		return;
	if (!fresh && !known)
		begin(c, counts(sk, t));
	c->direction = ACCEPTED;
	own(c, m);
	if (fresh)
		add(&s->accepted, 1);
}

/* Connections that were accepted and have an owner are counted by the kernel, and nothing else is asked of them. */
static __always_inline bool served(struct conn *c)
{
	return c && c->direction == ACCEPTED && c->serial;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_sent, struct sock *sk, int ret)
{
	if (!internet(sk))
		return 0;
	bool tcp = sk->sk_protocol == IPPROTO_TCP;
	struct conn *c = tcp ? conn_of(sk) : 0;
	if (served(c))
		return 0;
	struct member *m = current_member();
	if (!m)
		return 0;
	struct slot *s = slot_at(m->slot, m->serial);
	if (!s)
		return 0;
	if (!tcp) {
		if (sk->sk_protocol == IPPROTO_MPTCP || !(ret > 0 || (ret == 0 && sk->sk_type == SOCK_DGRAM)))
			return 0;
		add(&s->sent, ret);
		add(&s->sends, 1);
		return 0;
	}
	if (ret <= 0)
		return 0;
	barrier_var(c); /* else the compiler keeps only that it is there, which the verifier does not understand */
	__u32 d = direction(sk, c);
	if (d == OPENED)
		request(sk, c, m, s);
	else if (d == ACCEPTED)
		accepted(sk, c, s, m, (struct bytes){.sent = ret});
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_received, struct sock *sk, int ret, int flags)
{
	if (!internet(sk) || flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	bool tcp = sk->sk_protocol == IPPROTO_TCP;
	struct conn *c = tcp ? conn_of(sk) : 0;
	if (served(c))
		return 0;
	struct member *m = current_member();
	if (!m)
		return 0;
	struct slot *s = slot_at(m->slot, m->serial);
	if (!s)
		return 0;
	if (!tcp) {
		if (sk->sk_protocol == IPPROTO_MPTCP || !(ret > 0 || (ret == 0 && sk->sk_type == SOCK_DGRAM)))
			return 0;
		add(&s->received, ret);
		add(&s->receives, 1);
		return 0;
	}
	barrier_var(c); /* as above */
	if (direction(sk, c) == ACCEPTED)
		accepted(sk, c, s, m, (struct bytes){.received = ret > 0 ? ret : 0});
	else if (c && ret > 0 && c->serial == m->serial && c->slot == m->slot)
		answered(s, c);
	return 0;
}

/* The answer has arrived, whoever runs. */
SEC("tp_btf/sk_data_ready")
int BPF_PROG(sock_ready, struct sock *sk)
{
	if (!internet(sk) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	struct conn *c = conn_of(sk);
	if (!c || c->state != WAITING)
		return 0;
	struct slot *s = slot_at(c->slot, c->serial);
	if (s)
		answered(s, c);
	return 0;
}

/* A connection that waits for an answer ends. */
static __always_inline void ended(struct sock *sk, struct slot *s, struct conn *c)
{
	struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
	/* The answer can come with the end; the end itself takes one number. */
	if (c->state == WAITING && t && (__s32)(t->rcv_nxt - t->copied_seq) > 1)
		answered(s, c);
	else if (sk->sk_shutdown == SHUTDOWN_MASK && bpf_ktime_get_ns() - c->last < PATIENCE)
		withdrawn(s, c); /* the member closed it and wanted no answer */
	else
		failed(s, c, c->state);
}

/* The running member opens a connection. */
static __always_inline void connecting(struct sock *sk)
{
	struct member *m = current_member();
	struct slot *s = m ? slot_at(m->slot, m->serial) : 0;
	if (!s)
		return;
	open(sk, m, s, CONNECTING);
	struct control *k = control();
	__u32 is = 1;
	if (k && !k->calls)
		bpf_ringbuf_output(&news, &is, sizeof(is), 0);
}

/* The running member listens. A socket that it hands on to others is unclear after the next pass that finds it there too. */
static __always_inline void listening(struct sock *sk)
{
	struct member *m = current_member();
	struct slot *s = m ? slot_at(m->slot, m->serial) : 0;
	struct conn *c = s ? bpf_sk_storage_get(&conns, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) : 0;
	if (!c)
		return;
	begin(c, (struct counts){});
	own(c, m);
	c->direction = ACCEPTED;
	c->state = IDLE;
}

/* A socket of MPTCP has sockets of TCP below it, and only those are counted. It has the same owner, and so have the copies that
 * accept makes of a listener, so that a pass over files knows that nothing is missed. */
static __always_inline void above(struct sock *sk)
{
	struct member *m = current_member();
	struct conn *c = m ? bpf_sk_storage_get(&conns, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) : 0;
	if (c)
		own(c, m);
}

/* A connection of a listener is complete. Who will take it is not known where the listener is unclear. */
static __always_inline void accepting(struct sock *sk, struct conn *c)
{
	struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
	struct slot *s = c ? slot_of(c) : 0;
	if (s) {
		add(&s->accepted, 1);
		if (t)
			c->resent = t->total_retrans; /* of what answered the first segment */
	} else if (!c && sk->sk_max_ack_backlog == 0) {
		c = bpf_sk_storage_get(&conns, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (c)
			c->direction = ACCEPTED; /* its backlog will not tell */
	}
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(sock_state, struct sock *sk, int old, int new)
{
	if (sk->sk_protocol == IPPROTO_MPTCP && (new == TCP_SYN_SENT || new == TCP_LISTEN))
		above(sk);
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new == TCP_SYN_SENT) {
		connecting(sk);
		return 0;
	}
	if (new == TCP_LISTEN) {
		listening(sk);
		return 0;
	}
	struct conn *c = conn_of(sk);
	if (old == TCP_SYN_RECV && new == TCP_ESTABLISHED && (!c || c->direction != OPENED)) {
		accepting(sk, c);
		return 0;
	}
	struct slot *s = c ? slot_of(c) : 0;
	if (!s)
		return 0;
	if (new == TCP_CLOSE)
		tally(sk, c, s);
	if (c->direction != OPENED)
		return 0;
	if (new == TCP_ESTABLISHED) {
		add(&s->opened, 1);
		__sync_val_compare_and_swap(&c->state, CONNECTING, IDLE);
		return 0;
	}
	if (c->state == IDLE)
		return 0;
	if (new == TCP_CLOSE || new == TCP_CLOSE_WAIT || (new == TCP_FIN_WAIT1 && sk->sk_shutdown == SHUTDOWN_MASK))
		ended(sk, s, c);
	return 0;
}

/* A look at all connections that have an owner. */
SEC("iter/bpf_sk_storage_map")
int conns_tallied(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct conn *c = sk ? conn_of(sk) : 0;
	struct slot *s = c ? slot_of(c) : 0;
	if (!s)
		return 0;
	tally(sk, c, s);
	struct control *k = control();
	if (k && c->direction == OPENED && sk->__sk_common.skc_state != TCP_CLOSE)
		k->opened++;
	return 0;
}

/* A member has a TCP socket that has something kept with it. It is the member's where it is nobody's, or where in two passes
 * nobody else had it; a listener that several slots have is nobody's. */
static __always_inline void shared(struct conn *c, struct member *m, __u32 pass, bool listens)
{
	bool lost = c->serial ? !slot_of(c) : !listens;
	if (!pass) {
		if (lost)
			own(c, m);
		return;
	}
	if (c->pass != pass) {
		if (lost || c->found == m->serial)
			own(c, m);
		c->pass = pass;
		c->found = m->serial;
		return;
	}
	if (c->found == m->serial)
		return;
	c->found = 0;
	if (listens)
		c->serial = 0;
}

/* A pass over the files of one process or of all: what members had before they were that, and what was handed to them. */
SEC("iter/task_file")
int files_passed(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct member *m = task && file ? member_of(task->group_leader) : 0;
	struct control *k = control();
	if (!m || !k || !slot_at(m->slot, m->serial))
		return 0;
	struct socket *socket = bpf_sock_from_file(file);
	struct sock *sk = socket ? socket->sk : 0;
	if (!sk || !internet(sk))
		return 0;
	struct conn *c = conn_of(sk);
	if (sk->sk_protocol == IPPROTO_MPTCP) {
		if (!c || !slot_of(c))
			k->unclear++;
		return 0;
	}
	if (sk->sk_protocol != IPPROTO_TCP) {
		k->datagrams++;
		return 0;
	}
	__u8 state = sk->__sk_common.skc_state;
	if (state == TCP_CLOSE)
		return 0;
	bool listens = state == TCP_LISTEN;
	if (c) {
		shared(c, m, k->pass, listens);
	} else {
		__u32 d = listens ? ACCEPTED : direction(sk, 0);
		struct tcp_sock *t = bpf_skc_to_tcp_sock(sk);
		c = bpf_sk_storage_get(&conns, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!c || !t)
			return 0;
		if (!listens)
			begin(c, counts(sk, t));
		c->direction = d;
		c->row = OTHER;
		c->pass = k->pass;
		c->found = m->serial;
		own(c, m);
	}
	if (listens && !c->serial)
		k->unclear++;
	if (c->direction == OPENED)
		k->opened++;
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(task_forked, struct task_struct *parent, struct task_struct *child)
{
	if (child->pid != child->tgid)
		return 0;
	struct member *m = member_of(parent->group_leader);
	if (!m || m->slot == LOADER || !slot_at(m->slot, m->serial))
		return 0;
	struct member own = *m;
	bpf_task_storage_get(&members, child, &own, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(task_exited, struct task_struct *task)
{
	__u32 number = task->tgid;
	if (task->signal->live.counter <= 0) {
		bpf_map_delete_elem(&heirs, &number);
		return 0;
	}
	if (task->pid != task->tgid)
		return 0;
	struct member *m = member_of(task);
	if (m) {
		struct member own = *m;
		bpf_map_update_elem(&heirs, &number, &own, BPF_ANY);
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(task_executed, struct task_struct *task, int old)
{
	if (old == task->pid)
		return 0;
	__u32 number = task->tgid;
	struct member *m = bpf_map_lookup_elem(&heirs, &number);
	if (!m)
		return 0;
	struct member own = *m;
	bpf_task_storage_get(&members, task, &own, BPF_LOCAL_STORAGE_GET_F_CREATE);
	bpf_map_delete_elem(&heirs, &number);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(call_entered, void *regs, long id)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct member *m = member_of(t->group_leader);
	if (!m)
		return 0;
	__u32 chunk = m->slot / CHUNK, row = m->slot % CHUNK;
	void *inner = bpf_map_lookup_elem(&calls, &chunk);
	if (!inner)
		return 0;
	struct calls *c = bpf_map_lookup_elem(inner, &row);
	if (!c || c->serial != m->serial)
		return 0;
	bool compat = bpf_core_field_exists(t->thread_info.status) && t->thread_info.status & TS_COMPAT;
	__u64 n = compat ? CALLS : (__u64)id;
	if (n >= CALLS) {
		add(&c->other, 1);
		return 0;
	}
	barrier_var(n); /* else the compiler leaves the bound out that the verifier wants to see */
	add(&c->of[n % CALLS], 1);
	return 0;
}
