package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxOutput is the size of an output file beyond which its head is cut off, and keepOutput what then remains.
	maxOutput  = 4 << 20
	keepOutput = 2 << 20
	// cutEvery is how often sizes are looked at: a program that writes at the speed of a disk is caught within some
	// hundred MiB.
	cutEvery = 250 * time.Millisecond
	// lastBytes is how much of the output goes into errors and exits.
	lastBytes = 2 << 10
)

// separator stands in the output where a generation began after the first one.
func separator(rec *record) string {
	return fmt.Sprintf("--- fettle: %s ---\n", rec.Instance.Ref)
}

const separatorHead = "--- fettle: "

// openOutput opens the file for the instance: appending, so that the head can be cut off under the writer. It belongs to
// the instance's user, who may open /dev/stdout.
func openOutput(dir string, rec *record) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, outputFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	if rec.User != nil {
		err = f.Chown(rec.User.UID, rec.User.GID)
	}
	if st, e := f.Stat(); err == nil && e == nil && st.Size() > 0 {
		_, err = f.WriteString(separator(rec))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open output: %w", err), f.Close())
	}
	return f, nil
}

// lastOutput are the last lines that the present launch wrote, at most 2 KiB.
func lastOutput(dir string) string {
	f, err := os.Open(filepath.Join(dir, outputFile))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(st.Size()-lastBytes, 0)
	b := make([]byte, st.Size()-from)
	n, err := f.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	b = b[:n]
	if i := bytes.LastIndex(b, []byte(separatorHead)); i >= 0 && (i == 0 || b[i-1] == '\n') {
		_, after, _ := bytes.Cut(b[i:], []byte("\n"))
		b = after
	} else if from > 0 {
		// A line that was cut is left out, unless it is all there is.
		if _, after, ok := bytes.Cut(b, []byte("\n")); ok && len(after) > 0 {
			b = after
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "\uFFFD"))
}

// cutter keeps output files bounded.
type cutter struct {
	lossy sync.Once
}

func (d *Driver) cutOutputs() {
	tick := time.NewTicker(cutEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
		d.mu.Lock()
		var dirs []string
		for _, l := range d.lives {
			dirs = append(dirs, l.dir)
		}
		d.mu.Unlock()
		for _, dir := range dirs {
			if err := d.cutOutput(filepath.Join(dir, outputFile)); err != nil && !missing(err) {
				d.log.Warn("output cannot be kept bounded", "file", filepath.Join(dir, outputFile), "error", err)
			}
		}
	}
}

// cutOutput cuts the head off a file beyond maxOutput. Where the file system cannot collapse a range (only ext4, XFS and
// few others can), the tail is copied over the head, and lines written in that moment are lost: said once.
func (d *Driver) cutOutput(path string) error {
	st, err := os.Stat(path)
	if err != nil || st.Size() <= maxOutput {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = collapse(f, st.Size()-keepOutput)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		d.cut.lossy.Do(func() {
			d.log.Warn("this file system cannot cut the head off a file: when output files are cut, lines may be lost", "directory", d.root)
		})
		err = copyTruncate(f)
	}
	if err != nil {
		return fmt.Errorf("cut %s: %w", path, err)
	}
	return nil
}

// collapse removes n bytes, rounded down to blocks, from the head. Writers that append are not disturbed and nothing
// of theirs is lost.
func collapse(f *os.File, n int64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	// The length must be whole blocks; ext4 with clusters wants larger ones, and 64 KiB is a multiple of all in use.
	unit := max(fs.Bsize, 64<<10)
	n = n / unit * unit
	if n <= 0 {
		return nil
	}
	for {
		// Nothing is cut when a signal interrupts it.
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, n); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func copyTruncate(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, keepOutput)
	n, err := f.ReadAt(tail, max(st.Size()-keepOutput, 0))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	// Appended like any other writer's lines: those written meanwhile come first, none is overwritten.
	a, err := os.OpenFile(f.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = a.Write(tail[:n])
	if e := a.Close(); err == nil {
		err = e
	}
	return err
}
