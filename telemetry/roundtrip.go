package telemetry

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// mostHeader is how many bytes an answer may take beside its body: headers, and the frames of chunks.
const mostHeader = 256 << 10

// mostAnswer is what is read of one answer at most.
const mostAnswer = mostBody + mostHeader

// roundTrip is one request by HTTP and its answer, on a connection of its own that never blocks. Nobody is woken when
// something arrives: who makes many of them looks after them from time to time. That is most of the cost saved where
// thousands are scraped, by a transport that takes goroutines and timers for each connection, or by a poller.
type roundTrip struct {
	to       unix.Sockaddr
	text     []byte // of the request
	deadline time.Time

	socket    file
	connected bool // or about to be
	sent      int  // bytes of the request
	answer    []byte
	ended     bool // no more will come

	head   int // bytes of the headers, 0 until they are there
	at     time.Time
	length int64 // of the body as it was told; below 0 where it was not
	chunks bool
}

// socketAddress is where a round trip connects to. It looks up a host's name, which may take long.
func socketAddress(network, address string) (unix.Sockaddr, error) {
	if network == "unix" {
		return &unix.SockaddrUnix{Name: address}, nil
	}
	at, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return nil, err
	}
	if ip := at.IP.To4(); ip != nil || at.IP == nil {
		to := &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte{127, 0, 0, 1}}
		copy(to.Addr[:], ip)
		return to, nil
	}
	to := &unix.SockaddrInet6{Port: at.Port}
	copy(to.Addr[:], at.IP)
	if at.Zone != "" {
		zone, err := net.InterfaceByName(at.Zone)
		if err != nil {
			return nil, err
		}
		to.ZoneId = uint32(zone.Index)
	}
	return to, nil
}

// begin opens the connection and sends what can be sent at once.
func (x *roundTrip) begin(answer []byte, deadline time.Time) error {
	*x = roundTrip{to: x.to, text: x.text, socket: closed, answer: answer[:0], deadline: deadline}
	family := unix.AF_UNIX
	switch x.to.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	x.socket = file(fd)
	return x.send()
}

// send connects and sends the request, as far as that goes without waiting.
func (x *roundTrip) send() error {
	if !x.connected {
		switch err := unix.Connect(int(x.socket), x.to); {
		case err == nil, errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.EINTR):
			x.connected = true
		case errors.Is(err, unix.EAGAIN): // too many others wait for this unix socket
			return nil
		default:
			return err
		}
	}
	for x.sent < len(x.text) {
		n, err := unix.Write(int(x.socket), x.text[x.sent:])
		switch {
		case err == nil:
			x.sent += n
		case errors.Is(err, unix.EAGAIN):
			return nil
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}

// look takes what has arrived by now. Once the answer is whole, or can be no more, it is done, and finish tells what it is.
func (x *roundTrip) look(now time.Time, question *http.Request) (done bool, err error) {
	if err := x.send(); err != nil {
		return true, err
	}
	got := len(x.answer)
	if err := x.receive(); err != nil {
		return true, err
	}
	if len(x.answer) > got || x.ended {
		if done, err := x.judge(now, question); done || err != nil {
			return true, err
		}
	}
	if now.After(x.deadline) {
		return true, os.ErrDeadlineExceeded
	}
	return false, nil
}

// receive reads until nothing is there, the end, or too much.
func (x *roundTrip) receive() error {
	for !x.ended {
		if cap(x.answer)-len(x.answer) < 4096 {
			x.answer = slices.Grow(x.answer, max(16<<10, len(x.answer)))
		}
		n, err := unix.Read(int(x.socket), x.answer[len(x.answer):cap(x.answer)])
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOTCONN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		x.answer = x.answer[:len(x.answer)+n]
		x.ended = n == 0 || len(x.answer) >= mostAnswer
	}
	return nil
}

// judge reads the headers and tells whether all of the body seems to be there.
func (x *roundTrip) judge(now time.Time, question *http.Request) (done bool, err error) {
	for x.head == 0 {
		n := headersOf(x.answer)
		if n == 0 && !x.ended && bytes.HasPrefix([]byte("HTTP/"), x.answer[:min(len(x.answer), 5)]) && len(x.answer) < mostHeader {
			return false, nil
		}
		if n == 0 {
			n = len(x.answer) // it is no answer, and the error says why
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(x.answer[:n])), question)
		switch {
		case err != nil:
			return true, err
		case resp.StatusCode < 200: // a hint of what is to come
			x.answer = x.answer[:copy(x.answer, x.answer[n:])]
			continue
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			return true, fmt.Errorf("it answers %s; redirects are not followed", resp.Status)
		case resp.StatusCode != http.StatusOK:
			return true, fmt.Errorf("it answers %s", resp.Status)
		}
		x.head, x.at, x.length = n, now, resp.ContentLength
		x.chunks = slices.Contains(resp.TransferEncoding, "chunked")
	}
	body := x.answer[x.head:]
	switch {
	case x.ended:
		return true, nil
	case x.chunks:
		return bytes.HasSuffix(body, []byte("\r\n\r\n")), nil // the last chunk, or the end of another one
	default:
		return x.length >= 0 && int64(len(body)) >= x.length, nil
	}
}

// headersOf is how many bytes the headers are, with the empty line at their end; 0 where they are not all there.
func headersOf(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		at += i + 1
		switch rest := b[at:]; {
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return at + 2
		case bytes.HasPrefix(rest, []byte("\n")):
			return at + 1
		}
	}
}

// body reads the body of an answer that is there; it fails with [io.ErrUnexpectedEOF] where a part is missing.
func (x *roundTrip) body() io.Reader {
	b := x.answer[x.head:]
	switch {
	case x.chunks:
		return httputil.NewChunkedReader(bytes.NewReader(b))
	case x.length > int64(len(b)):
		return io.MultiReader(bytes.NewReader(b), brokenOff{})
	case x.length >= 0:
		b = b[:x.length]
	}
	return bytes.NewReader(b)
}

// brokenOff is what comes behind the part of a body that is there.
type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (x *roundTrip) close() { x.socket.close() }
