package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/durable"
)

// The files of a state directory that are the daemon's own.
const (
	lockFile    = "lock"        // held while a daemon runs; its content is the holder's process id
	recordFile  = "daemon.json" // Record
	poolsFile   = "pools.json"  // the desired state
	journalFile = "journal.db"
	socketFile  = "fettle.sock"
)

// maxSocket is the longest path that a unix socket address holds on Linux, without its terminating zero.
const maxSocket = 107

// Record says where a daemon is. It stands in the daemon's state directory and, under a name made from that
// directory, in the registry.
type Record struct {
	PID      int       `json:"pid"`
	StateDir string    `json:"stateDir"`
	Socket   string    `json:"socket"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
}

// Find is the record of the daemon that runs or ran last on a state directory.
func Find(stateDir string) (Record, error) {
	var r Record
	b, err := os.ReadFile(filepath.Join(stateDir, recordFile))
	if err != nil {
		return r, fmt.Errorf("find daemon: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("find daemon: %s: %w", recordFile, err)
	}
	return r, nil
}

// Held tells whether a daemon runs on the state directory.
func Held(stateDir string) bool {
	f, err := os.Open(filepath.Join(stateDir, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}

// Remembered are the pools that the daemon on the state directory was told to run last.
func Remembered(stateDir string) ([]fettle.Pool, error) {
	b, err := os.ReadFile(filepath.Join(stateDir, poolsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("remembered pools: %w", err)
	}
	var pools []fettle.Pool
	if err := json.Unmarshal(b, &pools); err != nil {
		return nil, fmt.Errorf("remembered pools: %s: %w", poolsFile, err)
	}
	return pools, nil
}

func remember(stateDir string, pools []fettle.Pool) error {
	b, err := json.MarshalIndent(pools, "", "\t")
	if err != nil {
		return fmt.Errorf("remember pools: %w", err)
	}
	if err := durable.Replace(filepath.Join(stateDir, poolsFile), b); err != nil {
		return fmt.Errorf("remember pools: %w", err)
	}
	return nil
}

// MakeStateDir makes a directory for state, and those above it that are missing, of mode 0711 whatever the umask: other
// users' instances get through to their own directories and see nothing else. One that exists stays as it is.
func MakeStateDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	if above := filepath.Dir(dir); above != dir {
		if err := MakeStateDir(above); err != nil {
			return err
		}
	}
	switch err := os.Mkdir(dir, 0o711); {
	case errors.Is(err, os.ErrExist):
		return os.MkdirAll(dir, 0o711) // somebody else made it meanwhile, or it is no directory
	case err != nil:
		return err
	}
	return os.Chmod(dir, 0o711)
}

// lock makes the state directory and takes it for this process. The lock belongs to the open file, so that the kernel
// releases it when the process dies, and asking for it takes nothing.
func lock(stateDir string) (*os.File, error) {
	if err := MakeStateDir(stateDir); err != nil {
		return nil, fmt.Errorf("state directory: %w; name one that this user can make with --state DIR or FETTLE_STATE", err)
	}
	f, err := os.OpenFile(filepath.Join(stateDir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		b, _ := io.ReadAll(io.LimitReader(f, 32)) // what can be read of it is told
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("a daemon, pid %s, runs already on the state directory %s: %w", strings.TrimSpace(string(b)), stateDir, fettle.ErrConflict)
		}
		return nil, fmt.Errorf("lock state directory %s: %w", stateDir, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock state directory %s: %w", stateDir, err), f.Close())
	}
	return f, nil
}

// publish writes the record to the state directory and the registry; the returned function takes it back. The registry
// only spares clients to be told where the daemon is: what is wrong with it is unlisted, and no error.
func publish(r Record, registry string) (undo func(), unlisted, err error) {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return nil, nil, fmt.Errorf("record of the daemon: %w", err)
	}
	paths := []string{filepath.Join(r.StateDir, recordFile)}
	if err := durable.Replace(paths[0], b); err != nil {
		return nil, nil, fmt.Errorf("record of the daemon: %w", err)
	}
	if registry != "" {
		paths = append(paths, filepath.Join(registry, digest(r.StateDir)+".json"))
		// What is above it may be where state lives.
		if unlisted = MakeStateDir(filepath.Dir(registry)); unlisted == nil {
			unlisted = os.MkdirAll(registry, 0o700)
		}
		if unlisted == nil {
			unlisted = durable.Replace(paths[1], b)
		}
	}
	return func() {
		for _, p := range paths {
			_ = os.Remove(p) // a record without a daemon is ignored by all who read it
		}
	}, unlisted, nil
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:8])
}

// socketPath is where the API of a state directory listens: in it, or, where that path is too long for a socket, in a
// directory of this user below the system's temporary one.
func socketPath(stateDir string) (string, error) {
	p := filepath.Join(stateDir, socketFile)
	if len(p) <= maxSocket {
		return p, nil
	}
	dir := filepath.Join(os.TempDir(), "fettle-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("directory for sockets: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("directory for sockets %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return "", fmt.Errorf("directory for sockets %s belongs to somebody else or is open to others: %w", dir, fettle.ErrConflict)
	}
	return filepath.Join(dir, digest(stateDir)+".sock"), nil
}
