package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The disk is full: requests are served on, nothing disruptive is done, and it is said; then it works again by itself.
func TestFullDisk(t *testing.T) {
	r := newRig(t)
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", r.dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small file system of its own cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if out, err := r.command("down", "--force").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
		err := syscall.Unmount(r.dir, 0)
		for end := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); err = syscall.Unmount(r.dir, 0) {
			time.Sleep(100 * time.Millisecond) // who was killed holds files until the kernel has taken it away
		}
		if err != nil {
			t.Error(err)
		}
	})
	r.fettle("up", r.file, "--detach")
	before := r.pool()
	fill := filepath.Join(r.dir, "fill")
	if err := fillUp(fill); err != nil {
		t.Fatal(err)
	}
	r.until("the journal is said to fail", func() bool { return r.pool().Journal != "" })
	out, err := r.command("reset", string(before.Instances[0].ID), "--full", "--force").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "journal fails") {
		t.Errorf("a reset while the journal fails: %v, %s", err, out)
	}
	if out := r.fettle("ps"); !strings.Contains(out, "journal: ") {
		t.Errorf("ps does not tell:\n%s", out)
	}
	for i := range 20 {
		if err := request(http.DefaultClient, "http://"+before.Address+"/", i%2 == 0); err != nil {
			t.Errorf("request %d on a full disk: %v", i, err)
		}
	}
	if is, was := lives(r.pool()), lives(before); len(is) != len(was) {
		t.Errorf("instances %v became %v", was, is)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	r.until("the journal works again", func() bool { return r.pool().Journal == "" })
	r.fettle("reset", string(before.Instances[0].ID), "--full", "--force")
}

// fillUp writes until nothing more fits.
func fillUp(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		b := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(b)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	return nil
}

// A journal that is damaged is kept aside, and said.
func TestDamagedJournal(t *testing.T) {
	r := newRig(t)
	r.fettle("up", r.file, "--detach")
	before := lives(r.pool())
	r.fettle("down", "--keep")
	if err := os.WriteFile(filepath.Join(r.dir, "journal.db"), []byte(strings.Repeat("damaged ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.fettle("up", r.file, "--detach")
	if out := r.fettle("version"); !strings.Contains(out, "journal.db is damaged") || !strings.Contains(out, "corrupt") {
		t.Errorf("it is not said:\n%s", out)
	}
	kept, err := filepath.Glob(filepath.Join(r.dir, "journal.db.corrupt-*"))
	if err != nil || len(kept) == 0 {
		t.Errorf("it was not kept: %v", err)
	}
	after := lives(r.pool())
	for ref, pid := range before {
		if after[ref] != pid {
			t.Errorf("%s had pid %d, has %d: %v", ref, pid, after[ref], after)
		}
	}
	if len(after) != len(before) {
		t.Errorf("instances %v became %v", before, after)
	}
}
