package process

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// answer is a yes or no that may not be knowable.
type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// listener is a listening TCP socket.
type listener struct {
	addr  netip.AddrPort
	inode string
}

// listeners reads the listening TCP sockets of a process's network namespace from /proc/PID/net/tcp and tcp6.
func listeners(pid int) []listener {
	var ls []listener
	for _, file := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net", file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if l, ok := parseListener(line); ok {
				ls = append(ls, l)
			}
		}
	}
	return ls
}

// parseListener takes one line of /proc/net/tcp: "0: 0100007F:1F90 00000000:0000 0A ... inode". Addresses are words in
// the machine's byte order; state 0A is LISTEN.
func parseListener(line string) (listener, bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != "0A" {
		return listener{}, false
	}
	host, port, ok := strings.Cut(f[1], ":")
	raw, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || len(raw)%4 != 0 {
		return listener{}, false
	}
	for w := range slices.Chunk(raw, 4) {
		slices.Reverse(w) // little endian machines, all that Go's Linux ports of today run on but a few
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return listener{}, false
	}
	return listener{addr: netip.AddrPortFrom(ip, uint16(n)), inode: f[9]}, true
}

// sockets are the inodes of the sockets that the processes hold; whole is false where some could not be looked into.
func sockets(pids []int) (inodes map[string]bool, whole bool) {
	inodes, whole = map[string]bool{}, true
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		es, err := os.ReadDir(dir)
		if err != nil {
			whole = whole && missing(err)
			continue
		}
		for _, e := range es {
			to, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err != nil {
				continue
			}
			if s, ok := strings.CutPrefix(to, "socket:["); ok {
				inodes[strings.TrimSuffix(s, "]")] = true
			}
		}
	}
	return inodes, whole
}

// listens tells whether a process of the instance listens on the port.
func (d *Driver) listens(rec *record, p *proc, port int) answer {
	var there []listener
	for _, l := range listeners(p.PID) {
		if int(l.addr.Port()) == port {
			there = append(there, l)
		}
	}
	if len(there) == 0 {
		if p.dying() { // its sockets are closed, and its network is not shown any more
			return no
		}
		return unknown
	}
	// Mostly it is the leader itself; only else all processes of the machine are looked at for members.
	whole := false
	for _, of := range []func() []int{func() []int { return []int{p.PID} }, func() []int { return d.members(rec, p) }} {
		var mine map[string]bool
		mine, whole = sockets(of())
		if slices.ContainsFunc(there, func(l listener) bool { return mine[l.inode] }) {
			return yes
		}
	}
	if whole {
		return no
	}
	return unknown
}

// listening are the TCP addresses on which the instance listens, sorted.
func (d *Driver) listening(rec *record, p *proc) []string {
	mine, _ := sockets(d.members(rec, p))
	var addrs []string
	for _, l := range listeners(p.PID) {
		if !mine[l.inode] {
			continue
		}
		a := l.addr.String()
		if l.addr.Addr().IsUnspecified() {
			a = fmt.Sprintf("port %d", l.addr.Port())
		}
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	slices.Sort(addrs)
	return addrs
}
