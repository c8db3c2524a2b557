package telemetry

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestParseMapping(t *testing.T) {
	for line, want := range map[string][2]uint64{
		"55d0c0a00000-55d0c0a21000 rw-p 00000000 00:00 0                          [heap]": {0x55d0c0a00000, 0x55d0c0a21000},
		"1000-2000 r--s 0 00:00 0":                                           {0x1000, 0x2000},
		"1000-2000 -w-p 0 00:00 0":                                           {0x1000, 0x2000},
		"c000000000-c004000000 ---p 00000000 00:00 0":                        {},
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]": {},
		"ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0 [vsyscall]": {},
		"2000-1000 rw-p 0":                                                   {}, "1000 rw-p": {}, "x-y rw-p": {}, "1000-2000": {}, "1000-2000 r": {}, "": {}, "11111111111111111-2 rw-p 0": {},
	} {
		from, to, ok := parseMapping([]byte(line))
		if ok != (want != [2]uint64{}) || ok && (from != want[0] || to != want[1]) {
			t.Errorf("%q is %x-%x, %t", line, from, to, ok)
		}
	}
}

// FuzzMapping: what is understood is a span of addresses, and what strconv reads they read alike.
func FuzzMapping(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/maps"); err == nil {
		for line := range strings.Lines(string(b)) {
			f.Add([]byte(line))
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		from, to, ok := parseMapping(line)
		if ok && (from >= to || to > 1<<63) {
			t.Errorf("%q is %x-%x", line, from, to)
		}
		text := string(line)
		if len(text) > 16 {
			text = text[:16]
		}
		v, ok := hex([]byte(text))
		want, err := strconv.ParseUint(text, 16, 64)
		if ok && (err != nil || v != want) || !ok && err == nil && text == strings.ToLower(text) && !strings.HasPrefix(text, "+") {
			t.Errorf("%q is %x, %t; strconv has %x, %v", text, v, ok, want, err)
		}
	})
}

// TestWrittenPagesAreCounted, where the kernel marks them.
func TestWrittenPagesAreCounted(t *testing.T) {
	if why := whyNoWrites(); why != "" {
		t.Skip(why)
	}
	c := newChild(t)
	c.do("region 67108864")
	k := subjectOf(t, quick(), c.instance()).kin
	r := &k.members[0]
	count := func(lines ...string) float64 {
		if err := r.clear(clearWritten); err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			c.do(line)
		}
		n, err := r.written(k, make([]byte, 4096))
		if err != nil {
			t.Fatal(err)
		}
		return float64(n) / mib
	}
	if n := count("touch 0 64"); n > 3 {
		t.Errorf("only read, %g MiB were written to", n)
	}
	near(t, "MiB written to", count("dirty 0 16", "dirty 48 64", "touch 0 64"), 32, 3)
}

// TestPricesAreMeasured: setting a bit takes from nanoseconds to some microseconds, on any machine.
func TestPricesAreMeasured(t *testing.T) {
	p := measurePrices(whyNoWrites() == "")
	t.Logf("%.0f ns for a referenced bit, %.0f ns for a written one", p.reference*1e9, p.write*1e9)
	for _, v := range []float64{p.reference, p.write} {
		if v < 1e-9 || v > 1e-3 {
			t.Errorf("a price of %g s", v)
		}
	}
}
