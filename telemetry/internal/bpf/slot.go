package bpf

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// ChunkSize is the slots that are made at once.
	ChunkSize = 256
	// MaxSlots is the most slots of a set.
	MaxSlots = 64 * ChunkSize
	// NumCalls is the number of system call numbers that are counted one by one.
	NumCalls = len(Calls{}.Of)
)

type (
	// Slot is the counters of one owner. Fields are written by the kernel at any time: read them by package atomic.
	Slot = probesSlot
	// Peer is one destination of a slot's calls. The kernel gives the row to another one at any time: see [Peer.Read].
	Peer = probesPeer
	// Calls are the system calls of a slot's members by number.
	Calls = probesCalls
	// Member says which slot a process counts for.
	Member = probesMember
)

// readings are how often Read looks at a row that changes hands, which takes some nanoseconds.
const readings = 100

// Read gives a copy of the row in which all is of one destination; false when it changed hands all the while. Epoch is
// odd while the kernel replaces what is in the row, and another one afterwards.
func (p *Peer) Read() (now Peer, ok bool) {
	for range readings {
		now.Epoch = atomic.LoadUint32(&p.Epoch)
		if now.Epoch%2 == 1 {
			continue
		}
		now.Address = [2]uint64{atomic.LoadUint64(&p.Address[0]), atomic.LoadUint64(&p.Address[1])}
		now.Port = atomic.LoadUint32(&p.Port)
		now.Started, now.Answered = atomic.LoadUint64(&p.Started), atomic.LoadUint64(&p.Answered)
		now.Waited, now.Failed = atomic.LoadUint64(&p.Waited), atomic.LoadUint64(&p.Failed)
		if atomic.LoadUint32(&p.Epoch) == now.Epoch {
			return now, true
		}
	}
	return Peer{}, false
}

// chunk is the memory of [ChunkSize] rows.
type chunk struct {
	m   *ebpf.Map
	mem []byte
}

func (c *chunk) close() error { return errors.Join(unix.Munmap(c.mem), c.m.Close()) }

// grow makes chunks until row i is there.
func grow(chunks []*chunk, i uint32, spec *ebpf.MapSpec, outer *ebpf.Map) ([]*chunk, error) {
	for uint32(len(chunks)) <= i/ChunkSize {
		m, err := ebpf.NewMap(spec)
		if err != nil {
			return chunks, fmt.Errorf("make an eBPF map: %w", plain(err))
		}
		page := unix.Getpagesize()
		size := (int(spec.ValueSize)*ChunkSize + page - 1) / page * page
		mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		if err == nil {
			if err = outer.Update(uint32(len(chunks)), m, ebpf.UpdateAny); err != nil {
				err = errors.Join(err, unix.Munmap(mem))
			}
		}
		if err != nil {
			return chunks, errors.Join(fmt.Errorf("make an eBPF map: %w", err), m.Close())
		}
		chunks = append(chunks, &chunk{m, mem})
	}
	return chunks, nil
}

// Claim makes slot i that of a new owner: all its counters are 0. It must have been released a moment ago at least, or
// never been claimed. Serials are never 0 and never used twice for one slot.
func (s *Set) Claim(i, serial uint32) (*Slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.closed || i >= MaxSlots {
		return nil, fmt.Errorf("claim slot %d of at most %d: %w", i, MaxSlots, unix.ENOSPC)
	}
	if s.chunks, err = grow(s.chunks, i, s.chunk, s.maps.Slots); err != nil {
		return nil, err
	}
	c := s.chunks[i/ChunkSize]
	if err := c.m.Update(i%ChunkSize, &Slot{Serial: serial}, ebpf.UpdateAny); err != nil {
		return nil, fmt.Errorf("claim slot %d: %w", i, err)
	}
	return (*Slot)(unsafe.Pointer(&c.mem[uintptr(i%ChunkSize)*unsafe.Sizeof(Slot{})])), nil
}

// Release ends the ownership of slot i: what its members do counts no more.
func (s *Set) Release(i uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	err := s.chunks[i/ChunkSize].m.Update(i%ChunkSize, &Slot{}, ebpf.UpdateAny)
	if int(i/ChunkSize) < len(s.callChunks) {
		err = errors.Join(err, s.callChunks[i/ChunkSize].m.Update(i%ChunkSize, &Calls{}, ebpf.UpdateAny))
	}
	if err != nil {
		return fmt.Errorf("release slot %d: %w", i, err)
	}
	return nil
}

// ClaimCalls makes room for the system calls of slot i. A slot without it is left out by [Set.CountCalls].
func (s *Set) ClaimCalls(i, serial uint32) (*Calls, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.closed || i >= MaxSlots {
		return nil, fmt.Errorf("claim slot %d of at most %d: %w", i, MaxSlots, unix.ENOSPC)
	}
	if s.callChunks, err = grow(s.callChunks, i, s.calls, s.maps.Calls); err != nil {
		return nil, err
	}
	c := s.callChunks[i/ChunkSize]
	if err := c.m.Update(i%ChunkSize, &Calls{Serial: uint64(serial)}, ebpf.UpdateAny); err != nil {
		return nil, fmt.Errorf("claim the system calls of slot %d: %w", i, err)
	}
	return (*Calls)(unsafe.Pointer(&c.mem[uintptr(i%ChunkSize)*unsafe.Sizeof(Calls{})])), nil
}

// Join makes a process, by its pidfd, a member of a slot, whatever it was before.
func (s *Set) Join(pidfd int, m Member) error {
	if err := s.maps.Members.Update(uint32(pidfd), &m, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("make a process a member of slot %d: %w", m.Slot, err)
	}
	return nil
}

// Of tells which slot a process, by its pidfd, is a member of. The slot may have another owner by now.
func (s *Set) Of(pidfd int) (m Member, is bool, err error) {
	err = s.maps.Members.Lookup(uint32(pidfd), &m)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("ask for the slot of a process: %w", err)
	}
	return m, true, nil
}
