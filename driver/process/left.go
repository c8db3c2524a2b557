package process

import (
	"path/filepath"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// Running are the instances that run on a state directory, as their records there say. It adopts none, and changes nothing.
// What cannot be read is left out.
func Running(stateDir string) []ft.Ref {
	boot, err := procfs.BootID()
	if err != nil {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(stateDir, "instances", "*", "*"))
	if err != nil {
		return nil // the state directory's name is a bad pattern
	}
	var out []ft.Ref
	for _, dir := range dirs {
		var rec record
		var id identity
		if load(dir, recordFile, &rec) != nil || load(dir, identityFile, &id) != nil || id.Token != rec.Token || id.BootID != boot {
			continue
		}
		if s, err := procfs.ReadStat(id.PID); err == nil && s.Start == id.StartTime && !s.Dead() {
			out = append(out, rec.Instance.Ref)
		}
	}
	return out
}
