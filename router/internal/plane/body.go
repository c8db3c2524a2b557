package plane

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
)

// replayMost is how much of a request body is kept to be sent again.
const replayMost = 64 << 10

// body is the request's body on its way to one member, and to a second one if need be. Short ones are read before the
// request goes out: a slow client then holds no instance. Others stream.
type body struct {
	length int64 // -1: chunked
	kept   []byte
	stream bool
	src    io.Reader
	req    *http.Request

	gone func() // called when the client's side of it fails

	mu       sync.Mutex
	started  bool // a pump has read of src
	complete bool // kept is all of it
}

var errShort = errors.New("request body is shorter than its length")

// open prepares the body; an error is the client's.
func (b *body) open(r *http.Request, expect bool, gone func()) error {
	b.req, b.src, b.length, b.gone = r, r.Body, r.ContentLength, gone
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		b.length, b.complete = 0, true
		return nil
	case r.ContentLength > 0 && r.ContentLength <= replayMost && !expect:
		b.kept = make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, b.kept); err != nil {
			return err
		}
		b.complete = true
		return nil
	default:
		b.stream = true
		return nil
	}
}

// again tells whether the body can be sent to another member, once the pump was halted.
func (b *body) again() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.complete || !b.started
}

// appendFraming writes the fields that say how long the body is.
func (b *body) appendFraming(h []byte, r *http.Request) []byte {
	if b.length < 0 {
		h = append(h, "Transfer-Encoding: chunked\r\n"...)
		if len(r.Trailer) > 0 {
			names := make([]string, 0, len(r.Trailer))
			for name := range r.Trailer {
				names = append(names, name)
			}
			h = append(h, "Trailer: "...)
			h = append(h, strings.Join(names, ", ")...)
			h = append(h, "\r\n"...)
		}
		return h
	}
	if b.length == 0 && r.Method != http.MethodPost && r.Method != http.MethodPut && r.Method != http.MethodPatch &&
		r.Header.Get("Content-Length") == "" {
		return h
	}
	h = append(h, "Content-Length: "...)
	h = strconv.AppendInt(h, b.length, 10)
	return append(h, "\r\n"...)
}

// pump streams a body to one member.
type pump struct {
	b      *body
	stop   chan struct{}
	done   chan struct{}
	err    error // after done
	halted bool  // guarded by b.mu
}

// pump streams the body to c once it may proceed.
func (b *body) pump(c *conn, proceed <-chan struct{}) *pump {
	p := &pump{b: b, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		select {
		case <-proceed:
		case <-p.stop:
		}
		b.mu.Lock()
		replay := b.complete
		begin := !p.halted
		b.started = b.started || begin
		b.mu.Unlock()
		switch {
		case !begin:
			p.err = errHalted
		case replay:
			p.err = b.replay(c)
		default:
			p.err = b.copy(c)
		}
	}()
	return p
}

// halt tells whether all of the body reached the member's connection, and keeps a pump that has not begun from
// beginning. One that goes on fails at its next write, when the connection is closed, or at its next read, when
// net/http ends the request.
func (p *pump) halt() (whole bool) {
	if p == nil {
		return true
	}
	p.b.mu.Lock()
	p.halted = true
	p.b.mu.Unlock()
	close(p.stop)
	select {
	case <-p.done:
		return p.err == nil
	default:
		return false
	}
}

var errHalted = errors.New("answered before the body was asked for")

func (b *body) replay(c *conn) error {
	w, end := b.writer(c)
	if _, err := w.Write(b.kept); err != nil {
		return err
	}
	return end()
}

// writer frames what is written to it; end ends the body with its trailers.
func (b *body) writer(c *conn) (w io.Writer, end func() error) {
	if b.length >= 0 {
		return c.bw, c.bw.Flush
	}
	cw := httputil.NewChunkedWriter(c.bw)
	return cw, func() error {
		if err := cw.Close(); err != nil {
			return err
		}
		// net/http has filled the trailers in by now, having read the body to its end.
		if err := b.req.Trailer.Write(c.bw); err != nil {
			return err
		}
		if _, err := c.bw.WriteString("\r\n"); err != nil {
			return err
		}
		return c.bw.Flush()
	}
}

func (b *body) copy(c *conn) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	w, end := b.writer(c)
	total, keep := int64(0), true
	for {
		n, rerr := b.src.Read(*buf)
		total += int64(n)
		if keep = keep && total <= replayMost; keep {
			b.kept = append(b.kept, (*buf)[:n]...)
		} else {
			b.kept = nil
		}
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		switch {
		case rerr == io.EOF && b.length >= 0 && total < b.length:
			b.gone()
			return errShort
		case rerr == io.EOF:
			b.mu.Lock()
			b.complete = keep
			b.mu.Unlock()
			return end()
		case rerr != nil:
			b.gone()
			return rerr
		}
		if err := c.bw.Flush(); err != nil {
			return err
		}
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
