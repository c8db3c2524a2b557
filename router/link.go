package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/fettle-dev/fettle/router/internal/wire"
)

// link is the way to the router's control socket: connections are kept and used again.
type link struct {
	socket string

	mu     sync.Mutex
	idle   []*wire.Conn
	closed bool
}

// errNoRouter: nobody answers on the control socket.
var errNoRouter = errors.New("no router answers on the control socket")

// answerWithin bounds an answer where ctx does not.
const answerWithin = 10 * time.Second

// dial connects and makes sure that the other side is a process of the same user.
func (k *link) dial(ctx context.Context) (*wire.Conn, error) {
	var c *wire.Conn
	err := wire.At(k.socket, func(path string) error {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoRouter, err)
		}
		c = wire.NewConn(nc.(*net.UnixConn)) // what Dialer gives for unix
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, uid, err := c.Peer(); err != nil || uid != os.Getuid() {
		c.Close()
		return nil, fmt.Errorf("control socket %s: it is user %d who answers there: %w", k.socket, uid, errors.Join(errNoRouter, err))
	}
	return c, nil
}

func (k *link) get(ctx context.Context) (c *wire.Conn, kept bool, err error) {
	k.mu.Lock()
	if n := len(k.idle); n > 0 {
		c, k.idle = k.idle[n-1], k.idle[:n-1]
	}
	k.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	c, err = k.dial(ctx)
	return c, false, err
}

func (k *link) put(c *wire.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || len(k.idle) >= 8 {
		c.Close()
		return
	}
	k.idle = append(k.idle, c)
}

func (k *link) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, c := range k.idle {
		c.Close()
	}
	k.idle = nil
}

// ask sends one request, with a listener where there is one, and reads the answer, with the listener that comes with
// it. All operations may be asked twice, so a kept connection whose router died in the meantime is replaced.
func (k *link) ask(ctx context.Context, q *wire.Request, with *net.TCPListener) (*wire.Reply, *net.TCPListener, error) {
	for {
		c, kept, err := k.get(ctx)
		if err != nil {
			return nil, nil, err
		}
		r, l, err := exchange(ctx, c, q, with)
		if err == nil {
			k.put(c)
			return r, l, r.Error()
		}
		c.Close()
		if !kept || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("%s: %w", q.Op, errors.Join(err, ctx.Err()))
		}
	}
}

func exchange(ctx context.Context, c *wire.Conn, q *wire.Request, with *net.TCPListener) (*wire.Reply, *net.TCPListener, error) {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(answerWithin)
		if q.Deadline.After(end) {
			end = q.Deadline.Add(answerWithin)
		}
	}
	if err := c.SetDeadline(end); err != nil {
		return nil, nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })() // fails where it is closed already
	ask := *q
	ask.Listener = with != nil
	if err := c.Send(&ask, with); err != nil {
		return nil, nil, err
	}
	r := new(wire.Reply)
	if err := c.Receive(r); err != nil {
		return nil, nil, err
	}
	if !r.Listener {
		return r, nil, nil
	}
	l, err := c.Listener()
	return r, l, err
}

// owner is the process that listens on the control socket, also where it does not answer; 0 where there is none.
func (k *link) owner(ctx context.Context) int {
	c, err := k.dial(ctx)
	if err != nil {
		return 0
	}
	defer c.Close()
	pid, _, err := c.Peer()
	if err != nil {
		return 0
	}
	return pid
}

// hello asks the router who it is.
func (k *link) hello(ctx context.Context) (*wire.Hello, error) {
	r, _, err := k.ask(ctx, &wire.Request{Op: wire.OpHello}, nil)
	if err != nil {
		return nil, err
	}
	if r.Hello == nil {
		return nil, fmt.Errorf("hello: an answer without a name: %w", errNoRouter)
	}
	return r.Hello, nil
}
