package watch

import (
	"bufio"
	"encoding/hex"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// endpointOf is where a process listens: its lowest TCP port. Zero where it listens nowhere, or where that may not be
// read.
func endpointOf(pid int) ft.Endpoint {
	mine := sockets(pid)
	if len(mine) == 0 {
		return ft.Endpoint{}
	}
	var ports []netip.AddrPort
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		f, err := os.Open(procfs.Path(pid, table))
		if err != nil {
			continue
		}
		s := bufio.NewScanner(f)
		for s.Scan() {
			if at, inode, ok := parseListener(s.Text()); ok && mine[inode] {
				ports = append(ports, at)
			}
		}
		f.Close()
	}
	if len(ports) == 0 {
		return ft.Endpoint{}
	}
	at := slices.MinFunc(ports, func(a, b netip.AddrPort) int { return int(a.Port()) - int(b.Port()) })
	host := at.Addr()
	if host.IsUnspecified() {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if at.Addr().Is6() {
			host = netip.IPv6Loopback()
		}
	}
	return ft.Endpoint{Network: "tcp", Address: netip.AddrPortFrom(host, at.Port()).String()}
}

// sockets are the inodes of a process's sockets.
func sockets(pid int) map[uint64]bool {
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
