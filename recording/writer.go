package recording

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"time"
)

// A gzip member is ended when it holds so much text, or is so old: what is lost when the writer is killed.
const (
	memberBytes = 4 << 20
	memberTime  = 5 * time.Second
)

// Writer compresses the lines of a recording. It is not safe for concurrent use.
type Writer struct {
	out   counter
	z     *gzip.Writer
	open  bool
	raw   int
	since time.Time
	steps bool // the header is through
}

type counter struct {
	w io.Writer
	n int64
}

// Write counts.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{out: counter{w: w}} }

// Line writes a line, which has no newline. Each line of the header is written out at once: what follows can be read.
func (w *Writer) Line(b []byte) error {
	switch {
	case w.z == nil:
		w.z = gzip.NewWriter(&w.out)
		w.open = true
	case !w.open:
		w.z.Reset(&w.out)
		w.open = true
	}
	if w.raw == 0 {
		w.since = time.Now()
	}
	for _, part := range [][]byte{b, {'\n'}} {
		n, err := w.z.Write(part)
		w.raw += n
		if err != nil {
			return fmt.Errorf("recording: write: %w", err)
		}
	}
	w.steps = w.steps || bytes.HasPrefix(b, []byte(`{"at":`))
	if !w.steps || w.raw >= memberBytes || time.Since(w.since) >= memberTime {
		return w.Flush()
	}
	return nil
}

// Flush ends the member: what was written so far can be read whatever happens.
func (w *Writer) Flush() error {
	if !w.open {
		return nil
	}
	w.open, w.raw = false, 0
	if err := w.z.Close(); err != nil {
		return fmt.Errorf("recording: write: %w", err)
	}
	return nil
}

// Size is how many bytes were written out.
func (w *Writer) Size() int64 { return w.out.n }

// End writes the last line.
func (w *Writer) End(e End) error {
	b, err := e.line()
	if err != nil {
		return err
	}
	if err := w.Line(b); err != nil {
		return err
	}
	return w.Flush()
}

// Age ends the member if it is old enough. Where lines are rare it is called now and then.
func (w *Writer) Age() error {
	if w.open && time.Since(w.since) >= memberTime {
		return w.Flush()
	}
	return nil
}
