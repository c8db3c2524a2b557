package fettle

import (
	"encoding"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationText(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		text string
	}{
		{0, "0s"},
		{1500 * time.Millisecond, "1.5s"},
		{2 * time.Minute, "2m"},
		{time.Hour, "1h"},
		{24 * time.Hour, "24h"},
		{time.Hour + time.Second, "1h0m1s"},
		{90 * time.Minute, "1h30m"},
		{10 * time.Minute, "10m"},
		{-2 * time.Minute, "-2m"},
	} {
		if got := Duration(c.d).String(); got != c.text {
			t.Errorf("%d ns is %q, want %q", c.d, got, c.text)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64().Draw(t, "ns"))
		text, err := d.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Fatalf("%s comes back as %s, %v", text, back, err)
		}
	})
	var d Duration
	if err := d.UnmarshalText([]byte("5 minutes")); err == nil || !strings.Contains(err.Error(), "such as 500ms") {
		t.Errorf("error %v does not show the right form", err)
	}
}

func TestSizeText(t *testing.T) {
	for _, c := range []struct {
		text string
		n    Size
		out  string
	}{
		{"512MiB", 512 << 20, "512MiB"},
		{"1.5GiB", 3 << 29, "1536MiB"},
		{"2GB", 2e9, "1953125KiB"},
		{"1024", 1024, "1KiB"},
		{"0", 0, "0"},
		{" 7 KiB ", 7 << 10, "7KiB"},
		{"3B", 3, "3"},
		{"1kB", 1000, "1000"},
		{"4TiB", 4 << 40, "4TiB"},
	} {
		var s Size
		if err := s.UnmarshalText([]byte(c.text)); err != nil || s != c.n || s.String() != c.out {
			t.Errorf("%q is %d (%s), %v; want %d (%s)", c.text, s, s, err, c.n, c.out)
		}
	}
	for _, bad := range []string{"", "MiB", "much", "-1", "1e300GiB", "NaN", "Inf", "5 apples"} {
		var s Size
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was taken for %s", bad, s)
		}
	}
	var s struct{ A, B Size }
	if err := json.Unmarshal([]byte(`{"A": 1048576, "B": "1MiB"}`), &s); err != nil || s.A != 1<<20 || s.A != s.B {
		t.Errorf("in JSON: %+v, %v", s, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		// Beyond 2^53 bytes a size is not whole in the decoder's arithmetic; that is 8 PiB.
		s := Size(rapid.Int64Range(0, 1<<53).Draw(t, "bytes"))
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Size
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Fatalf("%s comes back as %s, %v", text, back, err)
		}
	})
}

func TestInstantText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := Instant(rapid.Int64().Draw(t, "ns"))
		text, err := i.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Instant
		if err := back.UnmarshalText(text); err != nil || back != i {
			t.Fatalf("%s comes back as %d, %v; want %d", text, back, err, i)
		}
		if InstantOf(i.Time()) != i {
			t.Fatalf("%d becomes %d by way of a time", i, InstantOf(i.Time()))
		}
	})
	var i Instant
	if err := i.UnmarshalText([]byte("noon")); err == nil {
		t.Error("noon was taken for an instant")
	}
}

// enum is a value with a text form.
type enum interface {
	encoding.TextMarshaler
	String() string
}

func TestEnumsComeBackFromTheirNames(t *testing.T) {
	of := func(n int, at func(i int) (enum, encoding.TextUnmarshaler)) {
		t.Helper()
		seen := map[string]bool{}
		for i := range n {
			v, back := at(i)
			text, err := v.MarshalText()
			if err != nil || seen[string(text)] || string(text) != v.String() {
				t.Errorf("%T %d is %q, %v", v, i, text, err)
			}
			seen[string(text)] = true
			if err := back.UnmarshalText(text); err != nil {
				t.Errorf("%T %q: %v", v, text, err)
			}
			if got := back.(interface{ String() string }).String(); got != v.String() {
				t.Errorf("%T %q comes back as %q", v, text, got)
			}
		}
		v, back := at(n)
		if !strings.HasSuffix(v.String(), "1") && !strings.ContainsAny(v.String(), "0123456789") {
			t.Errorf("%T %d, which does not exist, is called %q", v, n, v)
		}
		if err := back.UnmarshalText([]byte("nonsense")); err == nil || !strings.Contains(err.Error(), "one of ") {
			t.Errorf("%T: %v does not list the names", v, err)
		}
	}
	of(8, func(i int) (enum, encoding.TextUnmarshaler) { return Phase(i), new(Phase) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Resource(i), new(Resource) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Mode(i), new(Mode) })
	of(2, func(i int) (enum, encoding.TextUnmarshaler) { return Protocol(i), new(Protocol) })
	of(2, func(i int) (enum, encoding.TextUnmarshaler) { return WorkloadPolicy(i), new(WorkloadPolicy) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Role(i), new(Role) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Transform(i), new(Transform) })
	of(6, func(i int) (enum, encoding.TextUnmarshaler) { return Level(i), new(Level) })
	of(4, func(i int) (enum, encoding.TextUnmarshaler) { return Cause(i), new(Cause) })
	of(2, func(i int) (enum, encoding.TextUnmarshaler) { return Kind(i), new(Kind) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Switch(i), new(Switch) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Extent(i), new(Extent) })
	of(3, func(i int) (enum, encoding.TextUnmarshaler) { return Channel(i), new(Channel) })
	of(11, func(i int) (enum, encoding.TextUnmarshaler) { return Verb(i), new(Verb) })
	of(9, func(i int) (enum, encoding.TextUnmarshaler) { return Operation(i), new(Operation) })
}

func TestInstanceIDTakesApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := PoolName(rapid.StringMatching(`[a-z][a-z0-9-]{0,10}`).Draw(t, "pool"))
		serial := rapid.Uint32().Draw(t, "serial")
		id := NewInstanceID(pool, serial)
		if id.Pool() != pool || id.Serial() != serial {
			t.Fatalf("%s is taken apart into %q and %d", id, id.Pool(), id.Serial())
		}
		r := Ref{ID: id, Generation: rapid.Uint32().Draw(t, "generation")}
		if r.Life() != Life(uint64(serial)<<32|uint64(r.Generation)) {
			t.Fatalf("life of %s is %x", r, r.Life())
		}
	})
	for _, odd := range []InstanceID{"", "web", "web-", "web-x", "web-99999999999"} {
		if odd.Serial() != 0 {
			t.Errorf("%q has serial %d", odd, odd.Serial())
		}
	}
}
