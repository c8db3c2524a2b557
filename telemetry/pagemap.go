package telemetry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of an entry of /proc/PID/pagemap, see Documentation/admin-guide/mm/pagemap.rst of the kernel.
const (
	pageSoftDirty = 1 << 55 // written to since the last time that 4 was written to clear_refs
	pagePresent   = 1 << 63
)

// whyNoWrites tries on a page of our own whether the kernel marks pages that are written to: a fresh one that was
// touched must be marked. It is empty where it does.
func whyNoWrites() string {
	page, err := unix.Mmap(-1, 0, int(pageSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return "cannot try it: " + err.Error()
	}
	defer func() { _ = unix.Munmap(page) }()
	page[0] = 1
	f, err := open("/proc/self/pagemap")
	if err != nil {
		return "this kernel shows no pages (CONFIG_PROC_PAGE_MONITOR): " + err.Error()
	}
	defer f.close()
	var e [8]byte
	at := int64(uintptr(unsafe.Pointer(&page[0]))/uintptr(pageSize)) * int64(len(e))
	if n, err := unix.Pread(int(f), e[:], at); err != nil || n != len(e) {
		return fmt.Sprintf("cannot read /proc/self/pagemap: %v", err)
	}
	switch v := binary.NativeEndian.Uint64(e[:]); {
	case v&pagePresent == 0:
		return "this kernel does not show pages in /proc/PID/pagemap"
	case v&pageSoftDirty == 0:
		return "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)"
	}
	return ""
}

// written counts the bytes of a process that are present and were written to since the marks were cleared. Mappings
// that are younger than that count whole, for the kernel has them marked.
func (r *relative) written(k *kin, chunk []byte) (uint64, error) {
	maps, err := r.open("maps", unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer maps.close()
	if k.all, err = maps.all(k.all); err != nil {
		return 0, fmt.Errorf("read %s: %w", procPath(r.pid, "maps"), err)
	}
	pages, err := r.open("pagemap", unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer pages.close()
	from := time.Now()
	defer func() { r.held += time.Since(from) }()
	n := uint64(0)
	for text := k.all; len(text) > 0; {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		from, to, ok := parseMapping(line)
		if !ok {
			continue
		}
		dirty, err := countDirty(pages, from/pageSize, to/pageSize, chunk)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", procPath(r.pid, "pagemap"), err)
		}
		n += dirty * pageSize
	}
	return n, nil
}

// countDirty counts the marked pages from one number to another, in steps of chunk.
func countDirty(pages file, from, to uint64, chunk []byte) (n uint64, err error) {
	for from < to {
		want := chunk[:min(uint64(len(chunk)), (to-from)*8)]
		got, err := unix.Pread(int(pages), want, int64(from)*8)
		if err != nil || got < 8 {
			return n, err
		}
		for i := 0; i+8 <= got; i += 8 {
			if v := binary.NativeEndian.Uint64(want[i:]); v&(pageSoftDirty|pagePresent) == pageSoftDirty|pagePresent {
				n++
			}
		}
		from += uint64(got) / 8
	}
	return n, nil
}

// parseMapping reads the addresses of one line of /proc/PID/maps; it is not ok for mappings that nobody may read or
// write, such as address space that is only reserved.
func parseMapping(line []byte) (from, to uint64, ok bool) {
	span, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(rest) < 4 || rest[0] != 'r' && rest[1] != 'w' {
		return 0, 0, false
	}
	low, high, ok := bytes.Cut(span, []byte("-"))
	if !ok {
		return 0, 0, false
	}
	from, okFrom := hex(low)
	to, okTo := hex(high)
	return from, to, okFrom && okTo && from < to && to <= math.MaxInt64
}

func hex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		d := uint64(0)
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		default:
			return 0, false
		}
		v = v<<4 | d
	}
	return v, len(b) > 0 && len(b) <= 16
}

// prices are what clearing bits costs the application afterwards, in seconds a page.
type prices struct {
	reference float64 // to walk the page tables and set the referenced bit again
	write     float64 // to take the page fault that marks the page as written to again
}

// measurePrices takes them from a mapping of our own: what a pass over its pages takes longer after the bits were
// cleared, the least of three tries. The pages are more than a processor's address cache (TLB) holds, or the walk would be
// spared. Clearing the bits costs this process as much for its other pages, once.
func measurePrices(writes bool) prices {
	const pages = 4096
	p := prices{reference: 100e-9, write: 1e-6} // where it cannot be measured
	m, err := unix.Mmap(-1, 0, pages*int(pageSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return p
	}
	defer func() { _ = unix.Munmap(m) }()
	_ = unix.Madvise(m, unix.MADV_NOHUGEPAGE) // a kernel without huge pages does not know it
	pass := func() float64 {
		from := time.Now()
		for i := 0; i < len(m); i += int(pageSize) {
			m[i]++
		}
		return time.Since(from).Seconds() / pages
	}
	self := relative{dir: closed}
	if self.dir, err = openPath("/proc/self"); err != nil {
		return p
	}
	defer self.dir.close()
	dearer := func(what string) (float64, bool) {
		warm, cold := math.Inf(1), math.Inf(1)
		for range 3 {
			pass()
			warm = min(warm, pass())
			if self.clear(what) != nil {
				return 0, false
			}
			cold = min(cold, pass())
		}
		return max(cold-warm, leastPrice), true
	}
	if v, ok := dearer(clearReferenced); ok {
		p.reference = v
	}
	if writes {
		if v, ok := dearer(clearWritten); ok {
			p.write = v
		}
	}
	return p
}

// leastPrice is one access to memory, where the difference is lost in the noise of a busy machine.
const leastPrice = 20e-9

// What is written to /proc/PID/clear_refs, see proc_pid_clear_refs(5).
const (
	clearReferenced = "1"
	clearWritten    = "4"
)

func (r *relative) clear(what string) error {
	f, err := r.open("clear_refs", unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.close()
	from := time.Now()
	defer func() { r.held += time.Since(from) }()
	for {
		_, err := unix.Write(int(f), []byte(what))
		if err != unix.EINTR {
			return err
		}
	}
}
