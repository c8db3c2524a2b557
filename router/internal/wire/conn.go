package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// MaxMessage is the most bytes of one message.
const MaxMessage = 16 << 20

// Conn is one connection of the control protocol. One goroutine may write and another read at once.
type Conn struct {
	c   *net.UnixConn
	br  *bufio.Reader
	fds []int // received and not yet taken
	oob []byte
}

// NewConn wraps a connected socket.
func NewConn(c *net.UnixConn) *Conn {
	k := &Conn{c: c, oob: make([]byte, unix.CmsgSpace(4*16))}
	k.br = bufio.NewReader(fdReader{k})
	return k
}

// Close ends the connection; descriptors that nobody took are closed.
func (k *Conn) Close() error {
	err := k.c.Close()
	for _, fd := range k.fds {
		_ = unix.Close(fd)
	}
	k.fds = nil
	return err
}

// SetDeadline bounds reads and writes.
func (k *Conn) SetDeadline(t time.Time) error { return k.c.SetDeadline(t) }

// Peer is the process and the user at the other end, as the kernel recorded them at connection.
func (k *Conn) Peer() (pid, uid int, err error) {
	raw, err := k.c.SyscallConn()
	if err != nil {
		return 0, 0, fmt.Errorf("control socket: peer: %w", err)
	}
	var cred *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) {
		cred, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, 0, fmt.Errorf("control socket: peer: %w", err)
	}
	if serr != nil {
		return 0, 0, fmt.Errorf("control socket: peer: %w", serr)
	}
	return int(cred.Pid), int(cred.Uid), nil
}

// fdReader reads the socket with room for descriptors in every call: the kernel hands them over with the byte they
// were sent with, and drops them where nobody asked.
type fdReader struct{ k *Conn }

func (r fdReader) Read(b []byte) (int, error) {
	n, oobn, _, _, err := r.k.c.ReadMsgUnix(b, r.k.oob)
	if oobn > 0 {
		r.k.take(r.k.oob[:oobn])
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err // the kernel's -1 of a socket that was closed is no count
}

func (k *Conn) take(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			k.fds = append(k.fds, fds...)
		}
	}
}

// Send writes v as one message: its length in four bytes, big-endian, and its JSON. With a listener, its descriptor
// goes along.
func (k *Conn) Send(v any, with *net.TCPListener) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	if len(body) > MaxMessage {
		return fmt.Errorf("control message of %d bytes, at most %d: %w", len(body), MaxMessage, ft.ErrInvalid)
	}
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	if with == nil {
		_, err = k.c.Write(b)
		return err
	}
	raw, err := with.SyscallConn()
	if err != nil {
		return fmt.Errorf("listener %s: %w", with.Addr(), err)
	}
	// Not File().Fd(): that would take the socket, which both processes share, out of non-blocking mode.
	var n int
	var werr error
	if err := raw.Control(func(fd uintptr) {
		n, _, werr = k.c.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return fmt.Errorf("listener %s: %w", with.Addr(), err)
	}
	if werr != nil {
		return werr
	}
	if n < len(b) {
		_, err = k.c.Write(b[n:])
	}
	return err
}

// Receive reads one message into v.
func (k *Conn) Receive(v any) error { return Decode(k.br, v) }

// Decode reads one message from r into v.
func Decode(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxMessage {
		return fmt.Errorf("control message of %d bytes, at most %d: %w", n, MaxMessage, ft.ErrInvalid)
	}
	// Grown as the bytes come, so that a lying length costs nothing.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(body) < int(n) {
		return io.ErrUnexpectedEOF
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("control message: %w: %w", err, ft.ErrInvalid)
	}
	return nil
}

// Listener takes the descriptor that came with the last message.
func (k *Conn) Listener() (*net.TCPListener, error) {
	if len(k.fds) == 0 {
		return nil, fmt.Errorf("control message: no descriptor came with it: %w", ft.ErrInvalid)
	}
	fd := k.fds[0]
	k.fds = k.fds[1:]
	return FileListener(os.NewFile(uintptr(fd), "listener"))
}

// FileListener makes a listener of a descriptor and closes the file.
func FileListener(f *os.File) (*net.TCPListener, error) {
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("take listener over: %w", err)
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("take listener over: %s is no TCP listener: %w", l.Addr(), ft.ErrInvalid)
	}
	return t, nil
}

// shortest is the longest path that fits into a socket address (struct sockaddr_un), with some to spare.
const shortest = 100

// At calls f with a path that fits into a socket address and leads to the given one: a long path is reached through
// the descriptor of its directory.
func At(path string, f func(path string) error) error {
	if len(path) <= shortest {
		return f(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	raw, err := dir.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) {
		ferr = f("/proc/self/fd/" + strconv.Itoa(int(fd)) + "/" + filepath.Base(path))
	})
	return errors.Join(err, ferr)
}
