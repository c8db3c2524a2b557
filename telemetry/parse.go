package telemetry

import "bytes"

// digits reads the decimal number at b[i:], after any blanks, and returns the index behind it. It is not ok when there is
// none, or one that overflows.
func digits(b []byte, i int) (v uint64, next int, ok bool) {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	from, fits := i, true
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		fits = fits && v <= (1<<64-1-d)/10
		v = v*10 + d
	}
	return v, i, fits && i > from
}

// skip moves over n fields separated by blanks.
func skip(b []byte, i, n int) int {
	for ; n > 0; n-- {
		for i < len(b) && b[i] == ' ' {
			i++
		}
		for i < len(b) && b[i] != ' ' {
			i++
		}
	}
	return i
}

// stat is what is used of /proc/PID/stat; times are in clock ticks.
type stat struct {
	pid     int
	state   byte
	parent  int
	session int
	own     usage // of the process and its threads, also ended ones
	waited  usage // of its children that ended and were waited for
	threads int
	start   uint64 // ticks since boot
}

// usage are the counters that the kernel hands on to the parent when a child is waited for.
type usage struct {
	minor, major, user, system uint64
}

func (u usage) plus(o usage) usage {
	return usage{u.minor + o.minor, u.major + o.major, u.user + o.user, u.system + o.system}
}

// minus is u less o, each counter at least 0.
func (u usage) minus(o usage) usage {
	return usage{less(u.minor, o.minor), less(u.major, o.major), less(u.user, o.user), less(u.system, o.system)}
}

func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// parseStat reads /proc/PID/stat. The name in field 2 may hold blanks and brackets: it ends at the last ")".
func parseStat(b []byte, s *stat) bool {
	pid, _, ok := digits(b, 0)
	i := bytes.LastIndexByte(b, ')')
	if !ok || i < 0 || i+2 >= len(b) || pid > 1<<31 {
		return false
	}
	s.pid, s.state = int(pid), b[i+2]
	i += 3
	next := func(skipped int) uint64 {
		var v uint64
		var is bool
		v, i, is = digits(b, skip(b, i, skipped))
		ok = ok && is
		return v
	}
	s.parent = int(next(0) & (1<<31 - 1))  // field 4
	s.session = int(next(1) & (1<<31 - 1)) // 6
	s.own.minor = next(3)                  // 10
	s.waited.minor = next(0)
	s.own.major = next(0)
	s.waited.major = next(0)
	s.own.user = next(0) // 14
	s.own.system = next(0)
	s.waited.user = next(0)
	s.waited.system = next(0)
	s.threads = int(next(2) & (1<<31 - 1)) // 20
	s.start = next(1)                      // 22
	return ok
}

// parseStatm reads /proc/PID/statm: resident pages, and those of them that are anonymous.
func parseStatm(b []byte) (resident, anon uint64, ok bool) {
	resident, i, ok := digits(b, skip(b, 0, 1))
	if !ok {
		return 0, 0, false
	}
	shared, _, ok := digits(b, i)
	return resident, less(resident, shared), ok
}

// parseSchedstat reads /proc/PID/task/TID/schedstat: nanoseconds run, nanoseconds waited for a CPU, times that it was
// given one.
func parseSchedstat(b []byte) (t taskTimes, ok bool) {
	run, i, ok := digits(b, 0)
	if !ok {
		return t, false
	}
	wait, i, ok := digits(b, i)
	if !ok {
		return t, false
	}
	turns, _, ok := digits(b, i)
	return taskTimes{run, wait, turns}, ok
}

// parseKeyed reads a file of lines "key value" (or "key: value") and puts the values of the wanted keys into values,
// in their order; keys that are not there keep what was there. It returns how many were found.
func parseKeyed(b []byte, keys []string, values []uint64) (found int) {
	for len(b) > 0 && found < len(keys) {
		line := b
		if n := bytes.IndexByte(b, '\n'); n >= 0 {
			line, b = b[:n], b[n+1:]
		} else {
			b = nil
		}
		at := bytes.IndexAny(line, ": ")
		if at < 0 {
			continue
		}
		for k, key := range keys {
			if string(line[:at]) != key {
				continue
			}
			if v, _, ok := digits(line, at+1); ok {
				values[k] = v
				found++
			}
			break
		}
	}
	return found
}

// parsePressure reads the "some" total of a pressure file: microseconds in which some task stalled.
func parsePressure(b []byte) (total uint64, ok bool) {
	if !bytes.HasPrefix(b, []byte("some ")) {
		return 0, false
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	at := bytes.LastIndex(line, []byte("total="))
	if at < 0 {
		return 0, false
	}
	total, _, ok = digits(line, at+len("total="))
	return total, ok
}

// parseLastPID reads the last field of /proc/loadavg: the number that the youngest task got.
func parseLastPID(b []byte) (int, bool) {
	b = bytes.TrimRight(b, "\n")
	v, _, ok := digits(b, bytes.LastIndexByte(b, ' ')+1)
	return int(v & (1<<31 - 1)), ok
}

// appendNumbers appends the numbers of a list separated by blanks or newlines (cgroup.procs).
func appendNumbers(dst []int, b []byte) []int {
	for i := 0; i < len(b); {
		if b[i] < '0' || b[i] > '9' {
			i++
			continue
		}
		v, next, ok := digits(b, i)
		if ok && v < 1<<31 {
			dst = append(dst, int(v))
		}
		i = next
	}
	return dst
}

// appendEntries appends the numeric names in a buffer of struct linux_dirent64, as getdents64(2) fills it.
func appendEntries(dst []int, b []byte) []int {
	const head = 19 // inode, offset, length, type
	for len(b) > head {
		n := int(b[16]) | int(b[17])<<8
		if n <= head || n > len(b) {
			return dst
		}
		name, _, _ := bytes.Cut(b[head:n], []byte{0})
		if v, end, ok := digits(name, 0); ok && end == len(name) && name[0] != ' ' && name[0] != '\t' && v < 1<<31 {
			dst = append(dst, int(v))
		}
		b = b[n:]
	}
	return dst
}

// parseNetDev sums the bytes received and sent of /proc/PID/net/dev over all interfaces but the loopback one.
func parseNetDev(b []byte) (in, out uint64, ok bool) {
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return 0, 0, false // cut off
	}
	for line := range bytes.Lines(b) {
		name, rest, is := bytes.Cut(line, []byte(":"))
		if !is || string(bytes.TrimSpace(name)) == "lo" {
			continue
		}
		r, i, fine := digits(rest, 0)
		s, _, also := digits(rest, skip(rest, i, 7))
		if !fine || !also {
			return 0, 0, false
		}
		in, out = in+r, out+s
	}
	return in, out, true
}
