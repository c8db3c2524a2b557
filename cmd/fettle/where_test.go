package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// TestSilentDaemonIsToldFromNone: a daemon that holds its state directory and does not answer runs all the same.
func TestSilentDaemonIsToldFromNone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	state := filepath.Join(dir, "fettle")
	record := `{"pid": 4711, "stateDir": "` + state + `", "socket": "` + state + `/none.sock"}`
	for _, f := range []string{"fettle/daemons/x.json", "fettle/daemon.json", "fettle/lock"} {
		f = filepath.Join(dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o700), os.WriteFile(f, []byte(record), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c := &cli{}
	if _, err := c.connect(t.Context()); !errors.Is(err, api.ErrNoDaemon) {
		t.Errorf("without a holder of the lock: %v", err)
	}
	f, err := os.OpenFile(filepath.Join(state, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}); err != nil {
		t.Fatal(err)
	}
	_, err = c.connect(t.Context())
	if !errors.Is(err, fettle.ErrDeadline) || !strings.Contains(err.Error(), "a daemon, pid 4711, runs on "+state+", but does not answer") {
		t.Errorf("with one: %v", err)
	}
}
