//go:build stress

package stress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// own are the workers that stress-ng does not have: programs of the test itself. Each does its work in a directory, or
// with a server's address, for so long.
var own = map[string]func(where string, length time.Duration) error{"evict": evict, "call": call, "bulk": bulk}

// ownArg makes the test's own program one of them: ownArg NAME WHERE DURATION.
const ownArg = "internal-own"

func becomeOwn(args []string) error {
	length, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	return own[args[0]](args[1], length)
}

// evict touches the pages of a file that is on the disk and not in memory, one by one.
func evict(dir string, length time.Duration) (err error) {
	const size = 16 << 20
	f, err := os.Create(filepath.Join(dir, "evicted"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(make([]byte, size)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return fmt.Errorf("evict the file: %w", err)
		}
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map the file: %w", err)
		}
		if err := unix.Madvise(m, unix.MADV_RANDOM); err != nil { // nothing is read ahead
			return fmt.Errorf("map the file: %w", err)
		}
		sum := byte(0)
		for i := 0; i < size && time.Now().Before(end); i += os.Getpagesize() {
			sum += m[i]
		}
		if sum != 0 {
			return errors.New("the file is not what was written")
		}
		if err := unix.Munmap(m); err != nil {
			return err
		}
	}
	return nil
}

// call makes connections, and on each some requests of one line that are answered by one.
func call(address string, length time.Duration) error {
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		answers := bufio.NewReader(c)
		for range 3 {
			if _, err := io.WriteString(c, "what?\n"); err != nil {
				return err
			}
			if _, err := answers.ReadString('\n'); err != nil {
				return err
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// callee answers what call asks, and counts.
type callee struct {
	l                  net.Listener
	accepted, requests atomic.Int64
}

func newCallee() (*callee, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &callee{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.accepted.Add(1)
			go s.answer(c)
		}
	}()
	return s, nil
}

func (s *callee) answer(c net.Conn) {
	defer c.Close()
	asked := bufio.NewReader(c)
	for {
		if _, err := asked.ReadString('\n'); err != nil {
			return
		}
		s.requests.Add(1)
		if _, err := io.WriteString(c, "that\n"); err != nil {
			return
		}
	}
}

// bulk sends to itself, over the loopback interface, as much as goes through.
func bulk(_ string, length time.Duration) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	sunk := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
		sunk <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	chunk := make([]byte, 16<<10)
	for end := time.Now().Add(length); time.Now().Before(end); {
		if _, err := c.Write(chunk); err != nil {
			return err
		}
	}
	return errors.Join(c.Close(), <-sunk)
}
