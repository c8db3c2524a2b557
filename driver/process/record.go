package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/cgroup"
	"github.com/fettle-dev/fettle/internal/durable"
)

// The files of an instance's directory. All but data and run belong to the daemon.
const (
	recordFile   = "instance.json" // record: what is to run; written before anything runs
	identityFile = "process.json"  // identity: written by the shim before it becomes the command
	exitFile     = "exit.json"     // ending: how it ended, where that was seen
	lockFile     = "lock"          // held by the shim until it has become the command, and by whoever clears the record
	outputFile   = "output.log"    // what it writes to stdout and stderr
	dataDir      = "data"          // private data, owned by the instance's user
	nextDir      = "data.next"     // prepared copy of a full reset
	oldDir       = "data.old"      // what the copy replaced, on its way out
	runDir       = "run"           // the instance's socket, owned by its user
)

// record is what is to run, with all that the shim and a later daemon need. Its environment may hold secrets: the file
// is readable by the daemon's user only.
type record struct {
	Instance ft.Instance  `json:"instance"`
	Token    string       `json:"token"` // of this one launch: a shim with another one exits
	Ready    bool         `json:"ready"` // passed its startup probe and warm-up
	Serves   bool         `json:"serves,omitempty"`
	Port     int          `json:"port,omitempty"`
	Socket   string       `json:"socket,omitempty"`
	Path     string       `json:"path"` // resolved command
	Args     []string     `json:"args"`
	Env      []string     `json:"env"`
	Cwd      string       `json:"cwd"`
	User     *account     `json:"user,omitempty"`
	Nice     *int         `json:"nice,omitempty"` // autogroup priority that CPU weight 100 has; nil where another means or none gives weights
	Group    cgroup.Group `json:"group,omitzero"`
}

// account is whom an instance runs as.
type account struct {
	Name   string `json:"name"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Groups []int  `json:"groups,omitempty"`
	Home   string `json:"home,omitempty"`
}

// identity names a process for good: its number alone is used again.
type identity struct {
	Token     string `json:"token"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // field 22 of /proc/PID/stat
	BootID    string `json:"bootID"`
}

// ending is how a launch ended.
type ending struct {
	Token string  `json:"token"`
	Exit  ft.Exit `json:"exit"`
}

// save writes v durably: a reader, also one after a power failure, sees the old content or the new.
func save(dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := durable.Replace(filepath.Join(dir, name), b); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// load reads what save wrote.
func load(dir, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// makeLock creates the lock's file. Nobody else does: a shim whose directory is being removed must not.
func makeLock(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// lock takes the instance directory's lock. It is released by closing the file, by the kernel when the holder dies or
// becomes another program.
func lock(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: held by a starting process: %w", dir, ctx.Err()), f.Close())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
