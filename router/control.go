package router

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// control answers one connection of the control side until it ends.
func (s *server) control(c *wire.Conn) {
	defer c.Close()
	pid, uid, err := c.Peer()
	if err != nil || uid != os.Getuid() {
		s.log.Warn("control refused", "pid", pid, "uid", uid, "err", err)
		return
	}
	for {
		var q wire.Request
		if err := c.Receive(&q); err != nil {
			return // closed, or no protocol of ours
		}
		var l *net.TCPListener
		if q.Listener {
			if l, err = c.Listener(); err != nil {
				return
			}
		}
		if q.Op == wire.OpEvents {
			s.events(c)
			return
		}
		r, with := s.answer(&q, l)
		if err := c.Send(&r, with); err != nil {
			return
		}
		if q.Op == wire.OpShutdown {
			s.stop()
		}
	}
}

// answer carries one request out. The listener, where there is one, goes along with the reply.
func (s *server) answer(q *wire.Request, l *net.TCPListener) (wire.Reply, *net.TCPListener) {
	var r wire.Reply
	var with *net.TCPListener
	ctx, cancel := context.WithDeadline(context.Background(), q.Deadline)
	defer cancel()
	err := func() error {
		switch q.Op {
		case wire.OpHello:
			r.Hello = s.hello()
			return nil
		case wire.OpShutdown:
			return nil
		case wire.OpApply:
			if q.Table == nil {
				return fmt.Errorf("no table: %w", ft.ErrInvalid)
			}
			return s.apply(q.Table, l)
		case wire.OpClose:
			s.close(q.Pool)
			return nil
		}
		v, err := s.pool(q.Pool)
		if err != nil {
			return err
		}
		switch q.Op {
		case wire.OpListener:
			r.Listener, with = true, v.listener
		case wire.OpReady:
			return v.pool.Ready(ctx, q.Ref)
		case wire.OpDrain:
			return v.pool.Drain(ctx, q.Ref)
		case wire.OpCounters:
			var c wire.Counters
			v.pool.Counters(&c)
			r.Counters, err = c.AppendBinary(nil)
			return err
		case wire.OpStats:
			r.Stats = v.pool.Stats()
			r.Stats.Address, r.Stats.PID = v.listener.Addr().String(), os.Getpid()
		default:
			return fmt.Errorf("operation %q: %w", q.Op, ft.ErrInvalid)
		}
		return nil
	}()
	if err != nil {
		return wire.Failed(err), nil
	}
	return r, with
}

func (s *server) hello() *wire.Hello {
	h := &wire.Hello{Protocol: wire.Protocol, PID: os.Getpid(), Since: s.began}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.pools {
		h.Tables = append(h.Tables, v.pool.Table())
	}
	return h
}

// heartbeat tells the control side that the router lives, and the router that somebody listens.
const heartbeat = time.Second

// events sends what members do not answer, first those of now, until the connection ends.
func (s *server) events(c *wire.Conn) {
	ch := make(chan wire.Event, 1024)
	s.subMu.Lock()
	s.subs[ch] = struct{}{}
	s.subMu.Unlock()
	s.mu.Lock()
	var now []wire.Event
	for _, v := range s.pools {
		now = append(now, v.pool.Unresponsive()...)
	}
	s.mu.Unlock()
	defer func() {
		s.subMu.Lock()
		delete(s.subs, ch)
		s.subMu.Unlock()
	}()
	for i := range now {
		if c.Send(&wire.Reply{Event: &now[i]}, nil) != nil {
			return
		}
	}
	t := time.NewTicker(heartbeat)
	defer t.Stop()
	for {
		r := wire.Reply{}
		select {
		case e, ok := <-ch:
			if !ok {
				return
			}
			r.Event = &e
		case <-t.C:
		}
		if err := c.SetDeadline(time.Now().Add(10 * heartbeat)); err != nil {
			return
		}
		if c.Send(&r, nil) != nil {
			return
		}
	}
}
