package process

import (
	ft "github.com/fettle-dev/fettle"
)

// Digest identifies what an instance of the pool would be made from now: image, command and the data of the work. An
// instance whose Digest differs is outdated.
func Digest(p *ft.Pool, w ft.Work) string { return digest(p, w) }

// Environment is what an instance was started with: its environment and working directory, for probes by command.
// Both are empty where the instance is not known.
func (d *Driver) Environment(ref ft.Ref) (env []string, dir string) {
	var rec record
	if err := load(d.dir(ref.ID), recordFile, &rec); err != nil || rec.Instance.Ref != ref {
		return nil, ""
	}
	return rec.Env, rec.Cwd
}
