package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstPort is where instances' ports begin: below are the ports of well-known services.
const firstPort = 20000

// takePort chooses a loopback port that is free now and given to no other instance. It is taken from below the range
// of which the kernel takes the ports of outgoing connections, so that none of those can take it before the instance.
func (d *Driver) takePort() (int, error) {
	end := ephemeral()
	d.mu.Lock()
	defer d.mu.Unlock()
	if end-firstPort >= 1000 {
		for range 200 {
			port := firstPort + rand.IntN(end-firstPort)
			if !d.ports[port] && !taken(port) {
				d.ports[port] = true
				return port, nil
			}
		}
	}
	for range 200 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("choose a port: %w", err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		if err := ln.Close(); err != nil {
			return 0, fmt.Errorf("choose a port: %w", err)
		}
		if !d.ports[port] {
			d.ports[port] = true
			return port, nil
		}
	}
	return 0, errors.New("choose a port: none is free")
}

func (d *Driver) freePort(port int) {
	d.mu.Lock()
	delete(d.ports, port)
	d.mu.Unlock()
}

// taken tells whether somebody listens on the port, on any address that a server would bind.
func taken(port int) bool {
	for _, addr := range []string{"127.0.0.1:", "0.0.0.0:", "[::]:"} {
		ln, err := net.Listen("tcp", addr+strconv.Itoa(port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return true
		}
		if err == nil {
			_ = ln.Close()
		}
	}
	return false
}

// ephemeral is the first port that the kernel gives to outgoing connections.
func ephemeral() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	var lo, hi int
	if _, err := fmt.Sscan(string(b), &lo, &hi); err != nil {
		return 0
	}
	return lo
}
