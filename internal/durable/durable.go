// Package durable writes files that survive a power failure: a reader sees the old content or the new, never a part.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace makes b the content of the file at path, of mode 0600, whether or not it is there. It writes another file in the same
// directory, syncs it, renames it and syncs the directory. After an error the file is as it was, unless only the last failed.
func Replace(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

// SyncDir makes what was renamed, made and removed in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
