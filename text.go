package fettle

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

func enumString[T ~uint8](v T, names []string, kind string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return kind + " " + strconv.Itoa(int(v))
}

func enumParse[T ~uint8](v *T, b []byte, names []string, kind string) error {
	for i, n := range names {
		if n == string(b) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no %s: one of %s", b, kind, strings.Join(names, ", "))
}

// Duration is a time.Duration whose text form is Go's: "1.5s", "2m", "24h".
type Duration time.Duration

// D is the plain duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String drops the zero parts that time.Duration prints: "2m", not "2m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText gives the text form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText takes Go's form of a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration: write a number and a unit, such as 500ms, 30s, 2m or 1h", b)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes whose text form is "512MiB" or a plain number.
type Size int64

var sizeUnits = []struct {
	name string
	n    float64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1}}

// String uses the largest binary unit of which the size is a whole multiple.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if n := int64(u.n); s != 0 && int64(s)%n == 0 {
			return strconv.FormatInt(int64(s)/n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// rounded is a number of bytes for people, to three digits: "612 MiB".
func rounded(b float64) string {
	unit := "B"
	for _, u := range sizeUnits[:4] {
		if b >= u.n*1000/1024 {
			b, unit = b/u.n, u.name
			break
		}
	}
	text := strconv.FormatFloat(b, 'f', max(0, 2-int(math.Log10(max(b, 1)))), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + unit
}

// MarshalText gives the text form.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes a number with or without a unit (KiB, MiB, GiB, TiB, KB, MB, GB, TB).
func (s *Size) UnmarshalText(b []byte) error {
	t, n := strings.TrimSpace(string(b)), 1.0
	for _, u := range sizeUnits {
		if head, ok := strings.CutSuffix(t, u.name); ok {
			t, n = strings.TrimSpace(head), u.n
			break
		}
	}
	v, err := strconv.ParseFloat(t, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) || v*n > math.MaxInt64/2 {
		return fmt.Errorf("%q is no size: write a number and a unit, such as 512MiB or 2GiB", b)
	}
	*s = Size(v * n)
	return nil
}

// UnmarshalJSON also takes a plain number of bytes.
func (s *Size) UnmarshalJSON(b []byte) error {
	return s.UnmarshalText([]byte(strings.Trim(string(b), `"`)))
}

// Instant is a time without pointers: nanoseconds since 1970, 0 for none. Text form RFC 3339.
type Instant int64

// InstantOf converts; the zero time gives 0.
func InstantOf(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixNano())
}

// Time converts back; 0 gives the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

// MarshalText gives RFC 3339 with nanoseconds, or nothing for 0.
func (i Instant) MarshalText() ([]byte, error) {
	if i == 0 {
		return []byte{}, nil
	}
	return i.Time().AppendFormat(nil, time.RFC3339Nano), nil
}

// UnmarshalText takes RFC 3339 or nothing.
func (i *Instant) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*i = 0
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	*i = InstantOf(t)
	return err
}
