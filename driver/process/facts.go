package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// Fact is one thing that this machine gives or does not give, for `fettle doctor`.
type Fact struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Detail    string `json:"detail,omitempty"`
	Without   string `json:"without,omitempty"` // what Fettle does without it
}

// TryGroup makes a control group like an instance's, for f to try what it tells, and removes it. Where instances get
// none, the scope is empty.
func (d *Driver) TryGroup(ctx context.Context, f func(ft.Scope)) error {
	g := d.tree.Plan("doctor-" + rand.Text())
	err := g.Make()
	if err == nil {
		f(ft.Scope{CgroupV2: g.V2, CgroupV1: g.V1})
	}
	if err = errors.Join(err, g.Remove(ctx)); err != nil {
		return fmt.Errorf("try a control group: %w", err)
	}
	return nil
}

// Facts tells what this machine gives to the instances of this driver, by trying. The order is fixed.
func (d *Driver) Facts() []Fact {
	return []Fact{
		d.v2Fact(), d.v1Fact(), autogroupFact(), exitFact(), d.collapseFact(), userFact(), boundingFact(),
	}
}

func (d *Driver) v2Fact() Fact {
	f := Fact{
		Name:    "cgroup v2",
		Without: "v1 hierarchies where they are writable, else sessions: memory is watched but not limited",
	}
	cs := d.tree.V2Controllers()
	f.Available = len(cs) > 0
	switch {
	case f.Available:
		f.Detail = strings.Join(cs, ", ") + " in " + d.tree.V2()
	case d.tree.V2() != "":
		f.Detail = "writable, without controllers of use: pressure is read and whole groups are killed by it; " + d.whyNot("v2: ")
	default:
		f.Detail = d.whyNot("v2: ")
	}
	return f
}

func (d *Driver) v1Fact() Fact {
	cs := d.tree.V1Controllers()
	f := Fact{
		Name: "cgroup v1", Available: len(cs) > 0, Detail: strings.Join(cs, ", "),
		Without: "cgroup v2 where delegated, else sessions: memory is watched but not limited",
	}
	if !f.Available {
		f.Detail = d.whyNot("v1: ")
	}
	return f
}

// whyNot is why hierarchies of one version are not used, without what is said of the other one.
func (d *Driver) whyNot(version string) string {
	var out []string
	for _, w := range d.tree.Why() {
		own, of := strings.CutPrefix(w, version)
		if of || !strings.HasPrefix(w, "v1: ") && !strings.HasPrefix(w, "v2: ") {
			out = append(out, own)
		}
	}
	return strings.Join(out, "; ")
}

func autogroupFact() Fact {
	f := Fact{
		Name: "autogroup priority", Available: autogroup(),
		Without: "CPU weights by control groups only",
	}
	switch {
	case !f.Available:
		f.Detail = "kernel.sched_autogroup_enabled is not 1"
	case mayRaise():
		f.Detail = "sessions can be raised and lowered; used where no control group gives CPU weights"
	default:
		f.Detail = fmt.Sprintf("without CAP_SYS_NICE no session goes above priority 0: instances that may be tuned start at %d, weights go up to %s", spareNice, weightText(spareNice))
	}
	return f
}

func exitFact() Fact {
	f := Fact{Name: "exit status of adopted instances", Without: "their exits are noticed at once, their status is unknown"}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_EXIT}
		err = unix.IoctlPidfdInfo(fd, &info)
		_ = unix.Close(fd)
	}
	var u unix.Utsname
	release := "this kernel"
	if e := unix.Uname(&u); e == nil {
		release = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	// The call came with Linux 6.13, its exit information with 6.15.
	f.Available = err == nil && atLeast(unix.ByteSliceToString(u.Release[:]), 6, 15)
	f.Detail = "PIDFD_GET_INFO by " + release
	if !f.Available {
		f.Detail = "PIDFD_GET_INFO with exit information needs Linux 6.15; this is " + release
	}
	return f
}

func atLeast(release string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

func (d *Driver) collapseFact() Fact {
	f := Fact{Name: "collapse range in the state directory", Without: "output files are cut by copying their tail: lines written in that moment may be lost"}
	file, err := os.CreateTemp(d.root, "collapse-")
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	defer func() { _ = os.Remove(file.Name()); _ = file.Close() }()
	if err = file.Truncate(1 << 20); err == nil {
		err = collapse(file, 512<<10)
	}
	f.Available = err == nil
	f.Detail = "output files are cut without loss in " + d.root
	if errors.Is(err, unix.EOPNOTSUPP) {
		f.Detail = "the file system of " + d.root + " cannot"
	} else if err != nil {
		f.Detail = err.Error()
	}
	return f
}

func userFact() Fact {
	f := Fact{
		Name: "user switching", Available: os.Geteuid() == 0,
		Detail: "image.user is honoured", Without: "instances run as the user of the daemon; image.user naming another one is refused",
	}
	if !f.Available {
		f.Detail = fmt.Sprintf("the daemon runs as uid %d, not as root", os.Geteuid())
	}
	return f
}

func boundingFact() Fact {
	f := Fact{
		Name: "capability bounding set", Detail: "emptied for instances",
		Without: "instances have no capabilities to begin with and cannot gain any: no_new_privs is set always",
	}
	c, err := capabilities()
	f.Available = err == nil && c.effective(unix.CAP_SETPCAP)
	if !f.Available {
		f.Detail = "needs CAP_SETPCAP"
	}
	return f
}
