package recording

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	ft "github.com/fettle-dev/fettle"
)

// Reader reads a recording, step by step.
type Reader struct {
	in     *bufio.Reader
	line   int
	buf    []byte
	header *Header
	dec    decoder
	end    *End
	torn   error
	err    error
}

// NewReader reads the header. Errors name the line; those for what is no recording wrap [ErrFormat].
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("recording: line 1: %w: %w", err, ErrFormat)
		}
		in = bufio.NewReaderSize(z, 64<<10)
	}
	rd := &Reader{in: in}
	if err := rd.begin(); err != nil {
		return nil, fmt.Errorf("recording: line %d: %w", rd.line, err)
	}
	return rd, nil
}

func (r *Reader) begin() error {
	b, err := r.next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			r.line = 1
			return fmt.Errorf("the file is empty or its first line is not whole: %w", ErrFormat)
		}
		return err
	}
	if r.header, err = readHeader(b); err != nil {
		return err
	}
	if r.dec.schema, err = r.header.Schema.Make(); err != nil {
		return err
	}
	for range r.header.Profiles {
		b, err := r.next()
		if err != nil {
			return fmt.Errorf("it breaks off within what was learnt: %w", ErrFormat)
		}
		if r.header.learnt, err = profiles(r.header.learnt, b); err != nil {
			return err
		}
	}
	return nil
}

// next reads a line that is not blank. At the end of what is whole it gives io.EOF.
func (r *Reader) next() ([]byte, error) {
	for {
		r.buf = r.buf[:0]
		r.line++
		for {
			part, err := r.in.ReadSlice('\n')
			if len(r.buf)+len(part) > maxLine+1 {
				return nil, fmt.Errorf("it has more than %d bytes", maxLine)
			}
			r.buf = append(r.buf, part...)
			if err == nil {
				break
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			r.line--
			if !errors.Is(err, io.EOF) || len(r.buf) > 0 {
				r.torn = fmt.Errorf("it breaks off after line %d", r.line)
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					r.torn = fmt.Errorf("it breaks off after line %d: %w", r.line, err)
				}
			}
			return nil, io.EOF
		}
		if b := bytes.TrimSpace(r.buf); len(b) > 0 {
			return b, nil
		}
	}
}

// Header is what the steps rest on.
func (r *Reader) Header() *Header { return r.header }

// Schema is that of the frames.
func (r *Reader) Schema() *ft.Schema { return r.dec.schema }

// Next gives the next step; its frame and rows are good until the next call. At the end it gives io.EOF; see
// [Reader.End]. All other errors name the line.
func (r *Reader) Next() (*Step, error) {
	for r.err == nil {
		var b []byte
		if b, r.err = r.next(); r.err != nil {
			break
		}
		s, end, err := r.dec.step(b)
		switch {
		case err != nil:
			r.err = err
		case end != nil:
			r.end = end // more may follow where recordings were joined by mistake; it is not read
			r.err = io.EOF
		case s != nil:
			return s, nil
		}
	}
	if errors.Is(r.err, io.EOF) {
		return nil, io.EOF
	}
	return nil, fmt.Errorf("recording: line %d: %w", r.line, r.err)
}

// End says how the recording ended, once Next gave io.EOF; nil where it broke off, and the error says where.
func (r *Reader) End() (*End, error) {
	switch {
	case r.end != nil:
		return r.end, nil
	case r.torn != nil:
		return nil, r.torn
	default:
		return nil, fmt.Errorf("it breaks off after line %d", r.line)
	}
}

// Line is the number of the line that was read last.
func (r *Reader) Line() int { return r.line }
