package telemetry

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	peer "github.com/prometheus/procfs"
)

func TestParsersAgreeWithAPeerOnThisProcess(t *testing.T) {
	p, err := peer.Self()
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) []byte {
		b, err := os.ReadFile("/proc/self/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var s stat
	if !parseStat(read("stat"), &s) {
		t.Fatal("stat was not understood")
	}
	want, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if s.pid != want.PID || s.parent != want.PPID || s.session != want.Session || s.start != want.Starttime {
		t.Errorf("%+v, the peer reads %+v", s, want)
	}
	if d := want.MinFlt - uint(s.own.minor); d > 10000 {
		t.Errorf("minor faults %d, the peer reads %d", s.own.minor, want.MinFlt)
	}
	keys := []string{"rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"}
	if v := make([]uint64, len(keys)); parseKeyed(read("io"), keys, v) != len(keys) {
		t.Errorf("of io only %v was understood", v)
	}
	if tt, ok := parseSchedstat(read("schedstat")); !ok || tt.run == 0 {
		t.Errorf("schedstat %+v", tt)
	}
	if resident, anon, ok := parseStatm(read("statm")); !ok || anon == 0 || anon >= resident {
		t.Errorf("statm %d %d", resident, anon)
	}
}

func TestParseStat(t *testing.T) {
	const line = "4242 (a) (b 1 2) S 7 4242 4242 0 -1 4194560 2991 47430 3 9 6 7 13 120 20 0 5 0 248696 5124096 999 18446744073709551615"
	want := stat{
		pid: 4242, state: 'S', parent: 7, session: 4242,
		own: usage{minor: 2991, major: 3, user: 6, system: 7}, waited: usage{minor: 47430, major: 9, user: 13, system: 120},
		threads: 5, start: 248696,
	}
	var got stat
	if !parseStat([]byte(line), &got) {
		t.Fatal("not understood")
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stat{}, usage{})); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "x", "1", "1 (a", "1 (a)", "1 (a) ", "1 (a) S", "1 (a) S 2 3", line[:len(line)-60], strings.Replace(line, "2991", "99999999999999999999999", 1), strings.Replace(line, "248696", "-1", 1)} {
		if parseStat([]byte(bad), &got) {
			t.Errorf("%q was understood", bad)
		}
	}
}

func TestParseOthers(t *testing.T) {
	v := []uint64{7, 7, 7}
	const flat = "rss 1\ntotal_rss 5\ntotal_rss_huge 9\nnr_periods 12\nbad\nempty \nlast: \t 3"
	if n := parseKeyed([]byte(flat), []string{"total_rss", "last", "missing"}, v); n != 2 || !slices.Equal(v, []uint64{5, 3, 7}) {
		t.Errorf("%d found, %v", n, v)
	}
	if n, ok := parsePressure([]byte("some avg10=0.00 avg60=1.00 avg300=0.00 total=26681461\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")); !ok || n != 26681461 {
		t.Errorf("pressure %d %t", n, ok)
	}
	if n, ok := parseLastPID([]byte("1.56 1.84 0.95 1/94 17207\n")); !ok || n != 17207 {
		t.Errorf("last pid %d %t", n, ok)
	}
	if got := appendNumbers(nil, []byte("12\n7 99999999999999999999\n5")); !slices.Equal(got, []int{12, 7, 5}) {
		t.Errorf("numbers %v", got)
	}
}

// FuzzParsers: no text makes a parser fail other than by saying so, and what strconv reads they read alike.
func FuzzParsers(f *testing.F) {
	for _, path := range []string{"stat", "statm", "io", "schedstat", "status"} {
		if b, err := os.ReadFile("/proc/self/" + path); err == nil {
			f.Add(b)
		}
	}
	for _, s := range []string{"", ")", "1 )", "some total=", "some avg10=0.00 total=18446744073709551616", "a: 1\nb 2", "1.5 1.5 1/2 3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s stat
		if parseStat(b, &s) && (s.pid < 0 || s.parent < 0 || s.session < 0 || s.threads < 0) {
			t.Errorf("%+v", s)
		}
		if resident, anon, ok := parseStatm(b); ok && anon > resident {
			t.Errorf("%d anonymous pages of %d", anon, resident)
		}
		parseSchedstat(b)
		parsePressure(b)
		parseLastPID(b)
		appendNumbers(nil, b)
		keys, values := []string{"a", "VmRSS", "read_bytes"}, make([]uint64, 3)
		if n := parseKeyed(b, keys, values); n < 0 || n > len(keys) {
			t.Errorf("%d of %d keys", n, len(keys))
		}
		for _, pid := range appendEntries(nil, b) {
			if pid < 0 {
				t.Errorf("entry %d", pid)
			}
		}
		v, next, ok := digits(b, 0)
		text := strings.TrimLeft(string(b[:next]), " \t")
		if want, err := strconv.ParseUint(text, 10, 64); ok != (err == nil) || ok && v != want {
			t.Errorf("digits of %q are %d, %t; strconv has %d, %v", text, v, ok, want, err)
		}
	})
}

func TestDirectoryEntries(t *testing.T) {
	entry := func(name string) []byte {
		b := make([]byte, (19+len(name)+1+7)/8*8)
		binary.LittleEndian.PutUint16(b[16:], uint16(len(b)))
		copy(b[19:], name)
		return b
	}
	b := slices.Concat(entry("."), entry(".."), entry("1"), entry("self"), entry("12345"), entry("7x"))
	if got := appendEntries(nil, b); !slices.Equal(got, []int{1, 12345}) {
		t.Errorf("%v", got)
	}
	for n := range b {
		appendEntries(nil, b[:n])
	}
}
