package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// control is the memory through which a set and its programs talk.
type control struct {
	mu   sync.Mutex // held while a program answers in it
	mem  []byte
	pass uint32
}

func (c *control) open(m *ebpf.Map) (err error) {
	if c.mem, err = unix.Mmap(m.FD(), 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map the memory of eBPF programs: %w", err)
	}
	return nil
}

func (c *control) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mem == nil {
		return nil
	}
	err := unix.Munmap(c.mem)
	c.mem = nil
	return err
}

// at is the memory; nil once it is closed.
func (c *control) at() *probesControl {
	if c.mem == nil {
		return nil
	}
	return (*probesControl)(unsafe.Pointer(&c.mem[0]))
}

// Demand says which of [Sent], [Received] and [Ready] are to run at each message on the machine, and attaches and detaches
// them. Those that the kernel lacks are passed over.
func (s *Set) Demand(of ...Program) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return nil
	}
	want := map[Program]bool{}
	var errs []error
	for _, name := range of {
		want[name] = true
		if s.demanded[name] != nil || s.waiting[name] == nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: s.waiting[name]})
		if err != nil {
			errs = append(errs, fmt.Errorf("attach %s: %w", name, plain(err)))
			continue
		}
		s.demanded[name] = l
	}
	for name, l := range s.demanded {
		if !want[name] {
			errs = append(errs, l.Close())
			delete(s.demanded, name)
		}
	}
	return errors.Join(errs...)
}

// WatchCalls tells the programs whether somebody looks at calls to others: while nobody does, [Set.Opened] returns for each
// connection that is opened.
func (s *Set) WatchCalls(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.control.at(); k != nil {
		v := uint32(0)
		if on {
			v = 1
		}
		atomic.StoreUint32(&k.Calls, v)
	}
}

// Opened returns when a member opens a connection while nobody looks at calls; the error is [os.ErrClosed] at the end.
func (s *Set) Opened() error {
	_, err := s.news.Read()
	if err != nil {
		return fmt.Errorf("wait for a connection: %w", err)
	}
	return nil
}

// Stop ends [Set.Opened].
func (s *Set) Stop() error {
	if err := s.news.Close(); err != nil {
		return fmt.Errorf("end to wait for connections: %w", err)
	}
	return nil
}

// Tally brings the counters of all slots up to date with what the kernel counted of their TCP connections, and tells how many
// of those that members opened are open.
func (s *Set) Tally() (opened int, err error) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	k := s.control.at()
	if k == nil {
		return 0, fmt.Errorf("look at connections: %w", os.ErrClosed)
	}
	atomic.StoreUint32(&k.Opened, 0)
	r, err := s.tallied.Open()
	if err == nil {
		err = drain(r)
	}
	if err != nil {
		return 0, fmt.Errorf("look at connections: %w", err)
	}
	return int(atomic.LoadUint32(&k.Opened)), nil
}

// drain lets a program run over all that there is. It prints nothing.
func drain(r io.ReadCloser) error {
	var buf [1]byte
	var err error
	for err == nil || errors.Is(err, unix.EAGAIN) { // so it says after each million
		_, err = r.Read(buf[:])
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, r.Close())
}

// Sockets are those that members have open, as far as a pass found them.
type Sockets struct {
	// Opened are TCP connections that they opened, Datagrams are sockets of other protocols.
	Opened, Datagrams int
	// Unclear are listeners that several slots have, and MPTCP listeners that are older than the programs.
	Unclear int
}

// everyone is instead of a pidfd.
const everyone = -1

// Pass goes through the files of the process with that pidfd, which is a member, and counts for its slot the sockets that
// were open before it became one.
func (s *Set) Pass(pidfd int) (Sockets, error) { return s.pass(pidfd) }

// PassAll goes through the files of all members. What was handed from one to another is found so.
func (s *Set) PassAll() (Sockets, error) { return s.pass(everyone) }

func (s *Set) pass(pidfd int) (Sockets, error) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	k := s.control.at()
	if k == nil {
		return Sockets{}, fmt.Errorf("look at open files: %w", os.ErrClosed)
	}
	number := uint32(0)
	if pidfd == everyone {
		s.control.pass = max(s.control.pass+1, 1)
		number = s.control.pass
	}
	atomic.StoreUint32(&k.Pass, number)
	atomic.StoreUint32(&k.Opened, 0)
	atomic.StoreUint32(&k.Datagrams, 0)
	atomic.StoreUint32(&k.Unclear, 0)
	r, err := s.files(pidfd)
	if err == nil {
		err = drain(r)
	}
	if err != nil {
		return Sockets{}, fmt.Errorf("look at open files: %w", plain(err))
	}
	return Sockets{
		Opened: int(atomic.LoadUint32(&k.Opened)), Datagrams: int(atomic.LoadUint32(&k.Datagrams)), Unclear: int(atomic.LoadUint32(&k.Unclear)),
	}, nil
}

// files opens the iterator over open files, see bpf(2): link.AttachIter has no way to name a process (Linux 6.1 and newer).
func (s *Set) files(pidfd int) (io.ReadCloser, error) {
	const (
		linkCreate, iterCreate = 28, 33 // enum bpf_cmd
		traceIter              = 28     // enum bpf_attach_type
	)
	info := struct{ tid, pid, pidfd uint32 }{} // of union bpf_iter_link_info
	create := struct {
		program, target, kind, flags uint32
		info                         uint64
		size                         uint32
		_                            uint32
	}{program: uint32(s.passed.FD()), kind: traceIter}
	if pidfd != everyone {
		info.pidfd = uint32(pidfd)
		create.info, create.size = uint64(uintptr(unsafe.Pointer(&info))), uint32(unsafe.Sizeof(info))
	}
	l, _, errno := unix.Syscall(unix.SYS_BPF, linkCreate, uintptr(unsafe.Pointer(&create)), unsafe.Sizeof(create))
	if errno != 0 {
		return nil, errno
	}
	defer unix.Close(int(l))
	iter := struct{ link, flags uint32 }{link: uint32(l)}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, iterCreate, uintptr(unsafe.Pointer(&iter)), unsafe.Sizeof(iter))
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, "files"), nil
}
