package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// sink is where a recording is written to: a stream, or a file that is written under another name beside its own until it
// is kept, so that what was there before stays until then.
type sink struct {
	f     *os.File
	out   io.Writer // the output of the command, where that is it
	place string    // where the file is to stand; "" for a stream, and once it stands there
	force bool      // over what is there
}

// create opens what a recording is written to. A file may be read by its owner only, and stands under its name once it is
// kept; one that is there is replaced with force only. - is the output; pipes and character devices are written into.
func (c *cli) create(what, file string, force bool) (*sink, error) {
	if file == "-" || sameFile(file, c.out) {
		if isTTY(c.out) {
			return nil, invalid("%s: -o %s writes compressed data, which is nothing for a terminal: name a file or a pipe", what, file)
		}
		return &sink{out: c.out}, nil
	}
	st, err := os.Lstat(file)
	if errors.Is(err, os.ErrNotExist) {
		return beside(what, file, force)
	}
	place := file
	if err == nil && st.Mode()&os.ModeSymlink != 0 {
		if place, err = filepath.EvalSymlinks(file); err == nil {
			st, err = os.Lstat(place)
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, invalid("%s: %s is a link to a file that is not there: name that file", what, file)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	case st.IsDir():
		return nil, invalid("%s: %s is a directory: name a file in it, such as %s", what, file, filepath.Join(file, "pool.rec"))
	case st.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0:
		return stream(what, file)
	case !st.Mode().IsRegular():
		return nil, invalid("%s: %s is neither a file nor a pipe, and is not replaced: name a file", what, file)
	case !force:
		return nil, invalid("%s: %s exists; --force overwrites it", what, file)
	}
	return beside(what, place, true)
}

// notAFormat refuses to name a file like a form of output, which is what -o is elsewhere.
func notAFormat(what, file string) error {
	if !slices.Contains([]string{"json", "text", "table"}, file) {
		return nil
	}
	form := "text"
	if file == "json" {
		form = file
	}
	return invalid("%s: -o %s: here -o says where to write to: ./%s if that is its name; --format %s is the form of the result", what, file, file, form)
}

// resultAs takes the form of the result, of commands whose -o names a file.
func (c *cli) resultAs(form string) error {
	if form != "text" && form != "json" {
		return invalid("--format: %q is neither text nor json", form)
	}
	c.format = form
	return nil
}

// result prints a result for machines, on stderr where what was written is the output itself.
func (c *cli) result(s *sink, v any) error {
	if !s.output() {
		return c.printJSON(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	fmt.Fprintln(c.err, string(b))
	return nil
}

// stream opens what is written into where it is.
func stream(what, file string) (*sink, error) {
	f, err := os.OpenFile(file, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if isTTY(f) {
		return nil, errors.Join(invalid("%s: %s is a terminal, for which compressed data is nothing: name a file or a pipe", what, file), f.Close())
	}
	return &sink{f: f}, nil
}

// beside opens a file of another name in the same directory.
func beside(what, place string, force bool) (*sink, error) {
	dir := filepath.Dir(place)
	f, err := os.CreateTemp(dir, ".fettle-*.part")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, invalid("%s: there is no directory %s to write %s to", what, dir, filepath.Base(place))
	case err != nil:
		return nil, fmt.Errorf("%s: %s is written under another name beside it first: %w", what, place, err)
	}
	return &sink{f: f, place: place, force: force}, nil
}

// Write writes.
func (s *sink) Write(b []byte) (int, error) {
	if s.f == nil {
		return s.out.Write(b)
	}
	return s.f.Write(b)
}

// output tells whether it is the output of the command.
func (s *sink) output() bool { return s.f == nil }

// keep puts the file in its place. A stream, and a file that stands there, stay as they are.
func (s *sink) keep() error {
	if s.place == "" {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	if !s.force {
		claim, err := os.OpenFile(s.place, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return invalid("%s came to be meanwhile; --force overwrites it", s.place)
		}
		if err == nil {
			err = claim.Close()
		}
		if err != nil {
			return err
		}
	}
	if err := os.Rename(s.f.Name(), s.place); err != nil {
		if !s.force {
			err = errors.Join(err, os.Remove(s.place)) // what was claimed
		}
		return err
	}
	s.place = ""
	return nil
}

// Close closes it. A file that was not kept is gone.
func (s *sink) Close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	if s.place != "" {
		err = errors.Join(err, os.Remove(s.f.Name()))
	}
	return err
}

// sameFile tells whether a name is one of an open file, as /dev/stdout is of the output.
func sameFile(name string, w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	a, err1 := os.Stat(name)
	b, err2 := f.Stat()
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// isTTY tells a terminal from other devices.
func isTTY(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
