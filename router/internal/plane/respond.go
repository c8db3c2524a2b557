package plane

import (
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

// respond passes the member's answer on, as it comes.
func (x *exchange) respond(m *member, c *conn, resp *http.Response) outcome {
	o := outcome{kind: answered, status: resp.StatusCode, ttfb: time.Since(x.f.given)}
	x.status = resp.StatusCode
	if resp.StatusCode == http.StatusSwitchingProtocols {
		o.took = o.ttfb
		x.tunnel(m, c, resp)
		return o
	}
	h := x.w.Header()
	copyHeader(h, resp.Header)
	h["X-Fettle-Instance"] = []string{m.name}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	announced := len(resp.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range resp.Trailer {
			names = append(names, name)
		}
		h["Trailer"] = names
	}
	x.w.WriteHeader(resp.StatusCode)
	fromMember, err := x.copyBody(c, resp)
	o.took = time.Since(x.f.given)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		o.took = o.ttfb // lasts as long as the client likes
	}
	if err == nil {
		x.trailers(h, resp, announced)
		return o
	}
	x.broken = true
	switch x.f.stopped() {
	case causeClient:
		x.end = clientGone
	case causeCut:
		x.end = cutOff
	case notStopped, causeMoved:
		o.broken = fromMember
		if !o.broken {
			x.end = clientGone
		}
	}
	return o
}

// copyHeader copies the fields that are the client's business. What only the router may say is left out.
func copyHeader(dst, src http.Header) {
	conn := src["Connection"]
	for name, vs := range src {
		if hopByHop[name] || len(conn) > 0 && listed(src, name) || name == "X-Fettle-Error" || name == "X-Fettle-Instance" {
			continue
		}
		dst[name] = vs
	}
}

// copyBody copies until the end, flushing whenever the next bytes are still to come. It tells whose error it was.
func (x *exchange) copyBody(c *conn, resp *http.Response) (fromMember bool, err error) {
	if resp.Body == http.NoBody {
		return false, nil
	}
	flush := func() {}
	if f, ok := x.w.(http.Flusher); ok {
		flush = f.Flush
	}
	if c.br.Buffered() == 0 {
		flush()
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, rerr := resp.Body.Read(*buf)
		if n > 0 {
			w, err := x.w.Write((*buf)[:n])
			x.sent += int64(w)
			if err != nil {
				return false, err
			}
		}
		switch {
		case rerr == io.EOF:
			return false, nil
		case rerr != nil:
			return true, rerr
		case n < len(*buf) || c.br.Buffered() == 0:
			flush() // a chunked body's reader returns all that it has: the next read waits
		}
	}
}

// trailers passes the trailers on: those that were announced under their names, others by net/http's prefix.
func (x *exchange) trailers(h http.Header, resp *http.Response, announced int) {
	if len(resp.Trailer) == 0 {
		return
	}
	if f, ok := x.w.(http.Flusher); ok {
		f.Flush() // a short response would otherwise get a length, and a response with a length has no trailers
	}
	if len(resp.Trailer) == announced {
		maps.Copy(h, resp.Trailer)
		return
	}
	for name, vs := range resp.Trailer {
		h[http.TrailerPrefix+textproto.CanonicalMIMEHeaderKey(name)] = vs
	}
}

// finishResponse counts how the answer ended and breaks the client's connection off where the answer broke off, so
// that the client does not take it for whole.
func (x *exchange) finishResponse(o outcome) {
	t := &x.p.totals
	switch {
	case !x.broken:
		return
	case o.broken:
		t.broken.Add(1)
		x.end = reset
	case x.end == cutOff:
		t.cut.Add(1)
	}
	panic(http.ErrAbortHandler) //nolint:forbidigo // the documented way to break a response off; net/http recovers it
}

// tunnel joins client and member after a switch of protocols until both have said all. It counts as in flight.
func (x *exchange) tunnel(m *member, c *conn, resp *http.Response) {
	client, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.end = clientGone
		return
	}
	defer client.Close()
	h := make(http.Header, len(resp.Header)+1)
	copyHeader(h, resp.Header)
	h["X-Fettle-Instance"] = []string{m.name}
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, resp.Header["Upgrade"]
	head := &http.Response{StatusCode: resp.StatusCode, Status: resp.Status, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if err := head.Write(rw); err != nil {
		return
	}
	if err := rw.Flush(); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if pass(c, rw) != nil || c.CloseWrite() != nil {
			c.Close()
			client.Close()
		}
	}()
	n, err := io.Copy(client, c.br)
	x.sent += n
	if w, ok := client.(interface{ CloseWrite() error }); !ok || err != nil || w.CloseWrite() != nil {
		c.Close()
		client.Close()
	}
	<-done
	if x.f.stopped() == causeCut {
		x.p.totals.cut.Add(1)
		x.end = cutOff
	}
}

func pass(dst io.Writer, src io.Reader) error {
	_, err := io.Copy(dst, src)
	return err
}

// account counts the request's end for the pool and writes its line of the access log.
func (x *exchange) account() {
	if c := x.status / 100; c > 0 && c < len(x.p.totals.status) {
		x.p.totals.status[c].Add(1)
	}
	if x.end == clientGone {
		x.p.totals.clientGone.Add(1)
	}
	x.p.access.line(x)
}
