package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/durable"
)

// makeData builds the private data directory afresh under the name: a copy of the image's directory, the
// specialization's files over it, all handed over to the instance's user.
func (d *Driver) makeData(ctx context.Context, p *ft.Pool, l *life, w ft.Work, as *account, name string) error {
	to := filepath.Join(l.dir, name)
	if err := removeAll(to); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if p.Image.Dir != "" {
		c := copier{ctx: ctx, from: p.Image.Dir, to: to, as: as, skip: filepath.Dir(d.root)}
		if err := c.run(); err != nil {
			return fmt.Errorf("copy %s: %w", p.Image.Dir, err)
		}
	}
	if as != nil {
		if err := os.Lchown(to, as.UID, as.GID); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	return injectFiles(ctx, p, w, as, to)
}

// swapData puts the prepared data directory in the place of the present one.
func swapData(dir string) error {
	data, next, old := filepath.Join(dir, dataDir), filepath.Join(dir, nextDir), filepath.Join(dir, oldDir)
	if err := removeAll(old); err != nil {
		return fmt.Errorf("replace data directory: %w", err)
	}
	if err := os.Rename(data, old); err != nil && !missing(err) {
		return fmt.Errorf("replace data directory: %w", err)
	}
	if err := os.Rename(next, data); err != nil {
		return fmt.Errorf("replace data directory: %w", err)
	}
	if err := removeAll(old); err != nil {
		return fmt.Errorf("replace data directory: %w", err)
	}
	return durable.SyncDir(dir)
}

// injectFiles copies the specialization's files into a data directory. The directory belongs to the instance, which may
// have put links into it: they are not followed out of it.
func injectFiles(ctx context.Context, p *ft.Pool, w ft.Work, as *account, dir string) error {
	s := p.Specialization(w.Specialization)
	if s == nil || len(s.Files) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("inject files: %w", err)
	}
	defer func() { _ = root.Close() }()
	for to, from := range s.Files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("inject files: %w", err)
		}
		if err := injectFile(root, from, filepath.Clean(to), as); err != nil {
			return fmt.Errorf("inject %s of specialization %s: %w", to, s.Name, err)
		}
	}
	return nil
}

// injectFile writes beside and renames, so that a program that reads meanwhile sees the old file or the new one.
func injectFile(root *os.Root, from, to string, as *account) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: no regular file: %w", from, ft.ErrInvalid)
	}
	if err := makeParents(root, filepath.Dir(to), as); err != nil {
		return err
	}
	part := to + ".fettle-part"
	if err := root.Remove(part); err != nil && !missing(err) {
		return err
	}
	dst, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Chmod(st.Mode().Perm())
	}
	if err == nil && as != nil {
		err = dst.Chown(as.UID, as.GID)
	}
	if e := dst.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = root.Rename(part, to)
	}
	return err
}

func makeParents(root *os.Root, dir string, as *account) error {
	if dir == "." {
		return nil
	}
	if err := makeParents(root, filepath.Dir(dir), as); err != nil {
		return err
	}
	err := root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil && as != nil {
		err = root.Lchown(dir, as.UID, as.GID)
	}
	return err
}

// copier copies a tree: directories, regular files (sharing blocks where the file system can) and symbolic links as
// they are, with modes and times. Sockets, pipes and devices are left out.
type copier struct {
	ctx      context.Context
	from, to string
	as       *account
	skip     string // absolute directory that is not copied: the state directory may lie in the image's
}

func (c *copier) run() error {
	from, err := filepath.EvalSymlinks(c.from)
	if err != nil {
		return err
	}
	if from, err = filepath.Abs(from); err != nil {
		return err
	}
	if st, err := os.Stat(from); err != nil || !st.IsDir() {
		return errors.Join(fmt.Errorf("no directory: %w", ft.ErrInvalid), err)
	}
	if skip, err := filepath.EvalSymlinks(c.skip); err == nil {
		c.skip = skip
	}
	var dirs []string // their modes and times are set last: a read-only one must be filled first
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if path == c.skip {
			return fs.SkipDir
		}
		if e.IsDir() {
			dirs = append(dirs, path)
		}
		return c.entry(path, filepath.Join(c.to, strings.TrimPrefix(path, from)), e)
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := c.seal(dir, filepath.Join(c.to, strings.TrimPrefix(dir, from))); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) entry(path, to string, e fs.DirEntry) error {
	switch {
	case e.IsDir():
		if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case e.Type() == fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
	case e.Type().IsRegular():
		if err := copyFile(path, to); err != nil {
			return err
		}
	default:
		return nil
	}
	if c.as != nil {
		return os.Lchown(to, c.as.UID, c.as.GID)
	}
	return nil
}

// seal gives a directory the mode and times of its original.
func (c *copier) seal(from, to string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	// Its owner must be able to get in, also to remove it again.
	if err := os.Chmod(to, st.Mode().Perm()|0o700); err != nil {
		return err
	}
	return os.Chtimes(to, st.ModTime(), st.ModTime())
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Chmod(st.Mode().Perm())
	}
	if e := dst.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chtimes(to, st.ModTime(), st.ModTime())
	}
	return err
}

// removeAll removes a tree, also one with directories that their owner made read-only.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, _ error) error { // the removal after it has the last word
		if e != nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
