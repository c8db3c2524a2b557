//go:build stress

package stress

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
)

// truth ends the shell and gathers what the kernel and stress-ng say.
func (r *run) truth() (map[string]float64, error) {
	m := map[string]float64{}
	var ops float64
	var err error
	if r.worker.Own == "" {
		if ops, err = r.bogo(); err != nil {
			return nil, err
		}
	}
	if r.callee != nil {
		m["served.accepted"] = float64(r.callee.accepted.Load()) / r.took
		m["served.requests"] = float64(r.callee.requests.Load()) / r.took
	}
	for _, source := range r.worker.Shows {
		kind, n, _ := strings.Cut(source, ".")
		if kind != "set" && kind != "bogo" {
			continue
		}
		v, err := strconv.ParseFloat(n, 64)
		if err != nil {
			return nil, fmt.Errorf("truth %s: %w", source, err)
		}
		if kind == "bogo" {
			v *= ops
		}
		m[source] = v
	}
	for name, shots := range r.shots {
		if strings.HasPrefix(name, "proc.") {
			m[name] = median(shots)
		}
	}
	if r.worker.Net {
		if err := r.traffic(m); err != nil {
			return nil, err
		}
	}
	err = errors.Join(r.stdin.Close(), r.cmd.Wait())
	var exit interface{ ExitCode() int }
	if err != nil && !errors.As(err, &exit) { // read fails at the end of its input
		return nil, fmt.Errorf("end the shell: %w", err)
	}
	u, ok := r.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return nil, errors.New("no resource usage of the ended processes")
	}
	user, system := time.Duration(u.Utime.Nano()).Seconds(), time.Duration(u.Stime.Nano()).Seconds()
	for name, v := range map[string]float64{
		"user": user, "system": system, "cpu": user + system, "minor": float64(u.Minflt), "major": float64(u.Majflt),
		"switches": float64(u.Nvcsw + u.Nivcsw), "read": float64(u.Inblock) * 512, "written": float64(u.Oublock) * 512,
	} {
		m["rusage."+name] = v / r.took
	}
	for _, source := range r.worker.Shows {
		if n, is := strings.CutPrefix(source, "waits."); is {
			hogs, err := strconv.ParseFloat(n, 64)
			if err != nil {
				return nil, fmt.Errorf("truth %s: %w", source, err)
			}
			m[source] = (hogs*r.length.Seconds() - user - system) / r.took
		}
	}
	return m, nil
}

// bogo reads stress-ng's own count, and tells it per second.
func (r *run) bogo() (rate float64, err error) {
	b, err := os.ReadFile(filepath.Join(r.dir, "metrics.yaml"))
	if err != nil {
		return 0, fmt.Errorf("read stress-ng's metrics: %w", err)
	}
	var y struct {
		Metrics []struct {
			Ops float64 `yaml:"bogo-ops"`
		} `yaml:"metrics"`
	}
	if err := yaml.Unmarshal(b, &y); err != nil {
		return 0, fmt.Errorf("read stress-ng's metrics: %w", err)
	}
	for _, one := range y.Metrics {
		rate += one.Ops / r.took
	}
	return rate, nil
}

// traffic reads the counters of the worker's network namespace. All its packets go over the loopback interface, by TCP
// over IPv4; their headers are taken off: 20 bytes of IP and 32 of TCP with its timestamps.
func (r *run) traffic(m map[string]float64) error {
	counters := map[string]float64{}
	for _, name := range []string{"snmp", "netstat"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", r.cmd.Process.Pid, name))
		if err != nil {
			return fmt.Errorf("read the counters of the network namespace: %w", err)
		}
		// Pairs of lines "Tcp: names" and "Tcp: values".
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := 1; j < min(len(names), len(values)); j++ {
				counters[names[0]+names[j]], _ = strconv.ParseFloat(values[j], 64) // all are numbers
			}
		}
	}
	const headers = 52
	m["net.sent"] = (counters["IpExt:OutOctets"] - headers*counters["Ip:OutRequests"]) / r.took
	m["net.received"] = (counters["IpExt:InOctets"] - headers*counters["Ip:InReceives"]) / r.took
	m["net.opened"] = counters["Tcp:ActiveOpens"] / r.took
	m["net.resent"] = counters["Tcp:RetransSegs"] / r.took
	m["net.accepted"] = counters["Tcp:PassiveOpens"] / r.took
	return nil
}

// session sums over the processes of a session what they hold now. A process that ends meanwhile counts for nothing.
func session(leader int) map[string]float64 {
	m := map[string]float64{"proc.rss": 0, "proc.anon": 0, "proc.threads": 0, "proc.descriptors": 0}
	all, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range all {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 4 || string(fields[3]) != strconv.Itoa(leader) {
			continue
		}
		memory := keyed(dir + "/smaps_rollup")
		m["proc.rss"] += memory["Rss"] * 1024
		m["proc.anon"] += memory["Anonymous"] * 1024
		m["proc.threads"] += keyed(dir + "/status")["Threads"]
		if fds, err := os.ReadDir(dir + "/fd"); err == nil {
			m["proc.descriptors"] += float64(len(fds))
		}
	}
	return m
}

// keyed reads the numbers of a file of lines "Key: number".
func keyed(path string) map[string]float64 {
	m := map[string]float64{}
	b, err := os.ReadFile(path)
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 {
			if v, err := strconv.ParseFloat(f[1], 64); err == nil {
				m[strings.TrimSuffix(f[0], ":")] = v
			}
		}
	}
	return m
}
