package plane

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	ft "github.com/fettle-dev/fettle"
)

const (
	// idleFor is how long a connection to an instance is kept unused: shorter than any common server keeps it (two
	// seconds and up), so that a request is never sent into one that the server is about to close.
	idleFor     = time.Second
	idleMost    = 256 // connections kept for a member
	dialTimeout = 2 * time.Second
	headerMost  = 1 << 20 // bytes of a response header
)

// upstream keeps the connections to one member.
type upstream struct {
	endpoint ft.Endpoint
	meter    *meter
	dialer   net.Dialer

	mu     sync.Mutex
	idle   []*conn // latest last
	closed bool
}

func newUpstream(ep ft.Endpoint, m *meter) *upstream {
	return &upstream{endpoint: ep, meter: m, dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: -1}}
}

// conn is a connection to a member. It counts what goes through.
type conn struct {
	net.Conn
	br     *bufio.Reader
	bw     *bufio.Writer
	up     *upstream
	raw    syscall.RawConn
	look   func(fd uintptr) bool
	quiet  bool      // what look found: open, and nothing to read
	since  time.Time // idle
	head   int       // bytes of a response header that may still come, when above 0
	wrote  int64     // for the present request
	reused bool
}

var errHeader = errors.New("response header is too long")

// Read counts response bytes and bounds the header.
func (c *conn) Read(b []byte) (int, error) {
	if c.head < 0 {
		return 0, errHeader
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.up.meter.bytesOut.Add(uint64(n))
		c.up.meter.lastByte.Store(time.Now().UnixNano())
		if c.head > 0 {
			if c.head -= n; c.head <= 0 {
				c.head = -1
			}
		}
	}
	return n, err
}

// Write counts request bytes.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wrote += int64(n)
	c.up.meter.bytesIn.Add(uint64(n))
	return n, err
}

// get is a kept connection that the member has not closed, or a new one.
func (u *upstream) get(ctx context.Context) (*conn, error) {
	for {
		c := u.pop()
		if c == nil {
			return u.dial(ctx)
		}
		if time.Since(c.since) < idleFor && c.open() {
			c.reused, c.wrote = true, 0
			return c, nil
		}
		c.Close()
	}
}

func (u *upstream) pop() *conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.idle)
	if n == 0 {
		return nil
	}
	c := u.idle[n-1]
	u.idle[n-1] = nil
	u.idle = u.idle[:n-1]
	return c
}

func (u *upstream) dial(ctx context.Context) (*conn, error) {
	nc, err := u.dialer.DialContext(ctx, u.endpoint.Network, u.endpoint.Address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, up: u}
	c.br, c.bw = bufio.NewReaderSize(c, 4<<10), bufio.NewWriterSize(c, 4<<10)
	if s, ok := nc.(syscall.Conn); ok {
		if c.raw, err = s.SyscallConn(); err != nil {
			nc.Close()
			return nil, err
		}
	}
	c.look = func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		c.quiet = errors.Is(err, syscall.EAGAIN)
		return true
	}
	return c, nil
}

// dead tells whether nobody listens there any more.
func (u *upstream) dead(ctx context.Context) bool {
	nc, err := u.dialer.DialContext(ctx, u.endpoint.Network, u.endpoint.Address)
	if err != nil {
		return refusal(err)
	}
	nc.Close()
	return false
}

// open tells whether the other side still holds the connection and sent nothing that was not asked for.
func (c *conn) open() bool {
	if c.raw == nil {
		return true
	}
	c.quiet = false
	return c.raw.Read(c.look) == nil && c.quiet
}

// put keeps a connection whose exchange is complete.
func (u *upstream) put(c *conn) {
	c.since = time.Now()
	u.mu.Lock()
	keep := !u.closed && len(u.idle) < idleMost
	if keep {
		u.idle = append(u.idle, c)
	}
	u.mu.Unlock()
	if !keep {
		c.Close()
	}
}

// prune closes the connections that were idle for too long.
func (u *upstream) prune(now time.Time) {
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && now.Sub(u.idle[n].since) >= idleFor {
		n++
	}
	old := append([]*conn(nil), u.idle[:n]...)
	u.idle = append(u.idle[:0], u.idle[n:]...)
	u.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// drop closes all kept connections.
func (u *upstream) drop() {
	u.mu.Lock()
	old := u.idle
	u.idle = nil
	u.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// close drops them and keeps none from now on.
func (u *upstream) close() {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	u.drop()
}

// CloseWrite tells the member that nothing more comes, where the connection can say so.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}
