package telemetry

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// file is a descriptor that is kept open and read from its start; closed is -1.
type file int

const closed file = -1

func open(path string) (file, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return closed, fmt.Errorf("open %s: %w", path, err)
	}
	return file(fd), nil
}

// openPath opens a directory only to ask for its attributes, which needs no right to list it.
func openPath(path string) (file, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return closed, fmt.Errorf("open %s: %w", path, err)
	}
	return file(fd), nil
}

// read fills buf from the start of the file. What does not fit is cut off.
func (f file) read(buf []byte) ([]byte, error) {
	if f == closed {
		return nil, unix.EBADF
	}
	for {
		n, err := unix.Pread(int(f), buf, 0)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// all reads the whole file, also one that the kernel hands out in parts.
func (f file) all(dst []byte) ([]byte, error) {
	dst = dst[:0]
	for {
		if cap(dst)-len(dst) < 512 {
			dst = append(dst, make([]byte, 4096)...)[:len(dst)]
		}
		n, err := unix.Pread(int(f), dst[len(dst):cap(dst)], int64(len(dst)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return dst, err
		}
		dst = dst[:len(dst)+n]
	}
}

// numbers lists the numeric names of a directory.
func (f file) numbers(dst []int, buf []byte) ([]int, error) {
	if _, err := unix.Seek(int(f), 0, io.SeekStart); err != nil {
		return dst, err
	}
	for {
		n, err := unix.Getdents(int(f), buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return dst, err
		}
		dst = appendEntries(dst, buf[:n])
	}
}

// size is the size in the file's attributes.
func (f file) size(st *unix.Stat_t) (int64, error) {
	err := unix.Fstat(int(f), st)
	return st.Size, err
}

func (f *file) close() {
	if *f != closed {
		_ = unix.Close(int(*f)) // opened for reading: nothing can be lost
		*f = closed
	}
}
