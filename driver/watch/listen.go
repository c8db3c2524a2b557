package watch

import (
	"bufio"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// listeners are the TCP sockets of this network namespace that listen, as of one look. They are read when they are first
// asked for.
type listeners struct {
	sockets func(pid int) map[uint64]bool // the inodes of a process's sockets
	all     []listener
	read    bool
}

type listener struct {
	at    netip.AddrPort
	inode uint64
}

// of is where a process of this network namespace listens: its lowest port. Zero where it listens nowhere, or where that
// may not be read.
func (l *listeners) of(pid int) ft.Endpoint {
	if !l.read {
		l.fill()
	}
	if len(l.all) == 0 {
		return ft.Endpoint{}
	}
	mine := l.sockets(pid)
	var at netip.AddrPort
	for _, s := range l.all {
		if mine[s.inode] && (!at.IsValid() || s.at.Port() < at.Port()) {
			at = s.at
		}
	}
	if !at.IsValid() {
		return ft.Endpoint{}
	}
	host := at.Addr()
	switch {
	case host.IsUnspecified() && host.Is6():
		host = netip.IPv6Loopback()
	case host.IsUnspecified():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return ft.Endpoint{Network: "tcp", Address: netip.AddrPortFrom(host, at.Port()).String()}
}

func (l *listeners) fill() {
	l.read = true
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue // a kernel without IPv6
		}
		s := bufio.NewScanner(f)
		for s.Scan() {
			if at, inode, ok := parseListener(s.Text()); ok {
				l.all = append(l.all, listener{at, inode})
			}
		}
		f.Close()
	}
}

// Holder is a process that listens on a TCP address, and what it runs; 0 where there is none, or where it may not be seen.
func Holder(address string) (pid int, program string) {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil {
		return 0, ""
	}
	ip, _ := netip.ParseAddr(host) // without one, any address clashes
	var l listeners
	l.fill()
	var holds []uint64
	for _, s := range l.all {
		same := !ip.IsValid() || ip.IsUnspecified() || s.at.Addr().IsUnspecified() || s.at.Addr() == ip.Unmap()
		if s.at.Port() == uint16(n) && same {
			holds = append(holds, s.inode)
		}
	}
	if len(holds) == 0 {
		return 0, ""
	}
	for _, pid := range procfs.List(nil) {
		mine := socketsOf(pid)
		if slices.ContainsFunc(holds, func(inode uint64) bool { return mine[inode] }) {
			return pid, programOf(pid).name
		}
	}
	return 0, ""
}

// socketsOf are the inodes of a process's sockets.
func socketsOf(pid int) map[uint64]bool {
	es, err := os.ReadDir(procfs.Path(pid, "fd"))
	if err != nil {
		return nil
	}
	mine := map[uint64]bool{}
	for _, e := range es {
		to, err := os.Readlink(procfs.Path(pid, "fd/"+e.Name()))
		if err != nil {
			continue
		}
		if n, ok := strings.CutPrefix(to, "socket:["); ok {
			if inode, err := strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 64); err == nil {
				mine[inode] = true
			}
		}
	}
	return mine
}

// parseListener takes a line of /proc/net/tcp or tcp6 (proc_pid_net(5)) that is of a listening socket: state 0A. An
// address is words of the machine's byte order in hexadecimal; little-endian is assumed.
func parseListener(line string) (at netip.AddrPort, inode uint64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != "0A" {
		return at, 0, false
	}
	addr, port, _ := strings.Cut(f[1], ":")
	b, err := hex.DecodeString(addr)
	if err != nil || len(b)%4 != 0 {
		return at, 0, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return at, 0, false
	}
	inode, err = strconv.ParseUint(f[9], 10, 64)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), inode, err == nil
}
