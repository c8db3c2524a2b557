package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Console is the demo's end of the control connections: it knows the processes that run, and plants faults in them.
// Safe for concurrent use.
type Console struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	procs  map[string]*Process   // by instance, the newest; guarded by mu
	live   map[*Process]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// Process is one process of the application.
type Process struct {
	Instance string // the instance's ID
	PID      int

	conn    net.Conn
	ask     sync.Mutex // one command at a time
	answers chan State
	gone    chan struct{}
	ended   time.Time // once gone is closed
}

// ErrGone is of a process that runs no longer.
var ErrGone = errors.New("the process is gone")

// Listen makes a console on a unix socket.
func Listen(socket string) (*Console, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("demo console: %w", err)
	}
	c := &Console{l: l, procs: map[string]*Process{}, live: map[*Process]struct{}{}}
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(conn) })
		}
	})
	return c, nil
}

// serve listens to one process until it ends.
func (c *Console) serve(conn net.Conn) {
	defer conn.Close()
	dec := json.NewDecoder(conn)
	var hello State
	if dec.Decode(&hello) != nil {
		return
	}
	p := &Process{Instance: hello.Instance, PID: hello.PID, conn: conn, answers: make(chan State, 1), gone: make(chan struct{})}
	defer func() {
		p.ended = time.Now()
		close(p.gone)
	}()
	if !c.add(p) {
		return
	}
	defer c.remove(p)
	for {
		var s State
		if dec.Decode(&s) != nil {
			return
		}
		p.answers <- s
	}
}

func (c *Console) add(p *Process) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.procs[p.Instance] = p
	c.live[p] = struct{}{}
	return true
}

func (c *Console) remove(p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, p)
	if c.procs[p.Instance] == p {
		delete(c.procs, p.Instance)
	}
}

// Process is the newest process of an instance, nil if none runs.
func (c *Console) Process(instance string) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.procs[instance]
}

// PIDs are those of all processes that run.
func (c *Console) PIDs() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	for p := range c.live {
		pids = append(pids, p.PID)
	}
	return pids
}

// Close lets all processes go, which ends them, and waits for the connections.
func (c *Console) Close() error {
	err := c.l.Close()
	c.mu.Lock()
	c.closed = true
	for p := range c.live {
		_ = p.conn.Close() // ends serve, which reports nothing
	}
	c.mu.Unlock()
	c.wg.Wait()
	if err != nil {
		return fmt.Errorf("demo console: %w", err)
	}
	return nil
}

// Do carries a command out and gives the process's state after it. The error wraps [ErrGone] where the process ends
// meanwhile.
func (p *Process) Do(ctx context.Context, cmd Command) (State, error) {
	p.ask.Lock()
	defer p.ask.Unlock()
	if err := json.NewEncoder(p.conn).Encode(cmd); err != nil {
		return State{}, fmt.Errorf("%s %s: %w: %w", cmd.Do, p.Instance, ErrGone, err)
	}
	select {
	case s := <-p.answers:
		return s, nil
	case <-p.gone:
		return State{}, fmt.Errorf("%s %s: %w", cmd.Do, p.Instance, ErrGone)
	case <-ctx.Done():
		_ = p.conn.Close() // an answer that comes later would be taken for that of the next command
		return State{}, fmt.Errorf("%s %s: %w", cmd.Do, p.Instance, ctx.Err())
	}
}

// Gone is closed when the process has ended.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Ended is when it did, once Gone is closed.
func (p *Process) Ended() time.Time { return p.ended }
