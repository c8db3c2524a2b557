package process

import (
	"bytes"
	"os"
	"strconv"

	"github.com/fettle-dev/fettle/internal/procfs"
)

// self is the identity of the calling process.
func self(token string) (identity, error) {
	boot, err := procfs.BootID()
	if err != nil {
		return identity{}, err
	}
	s, err := procfs.ReadStat(os.Getpid())
	if err != nil {
		return identity{}, err
	}
	return identity{Token: token, PID: s.PID, StartTime: s.Start, BootID: boot}, nil
}

// hasEnv tells whether the process was started with exactly this variable.
func hasEnv(pid int, entry string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	return bytes.HasPrefix(b, []byte(entry+"\x00")) || bytes.Contains(b, []byte("\x00"+entry+"\x00"))
}
