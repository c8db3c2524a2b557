package procfs

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestOwnStat(t *testing.T) {
	s, err := ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != os.Getpid() || s.Parent != os.Getppid() || s.Start == 0 || s.Dead() {
		t.Errorf("own stat: %+v", s)
	}
}

func TestParseStat(t *testing.T) {
	rest := " S 7 8 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 " + strings.Repeat("0 ", 29) + "256"
	for _, name := range []string{"sh", "a b", "evil) Z 1 (", ")", "(", ""} {
		s, err := ParseStat([]byte("42 (" + name + ")" + rest))
		if err != nil || s.PID != 42 || s.State != 'S' || s.Parent != 7 || s.Group != 8 || s.Session != 9 || s.Start != 12345 {
			t.Errorf("command %q: %+v, %v", name, s, err)
		}
	}
	s, err := ParseStat([]byte("42 (sh)" + strings.Replace(rest, " S ", " Z ", 1)))
	if err != nil || !s.Dead() || s.Status != 256 {
		t.Errorf("zombie: %+v, %v", s, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 7 8 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0"))
	f.Add([]byte("42 () x"))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStat(b)
		if err == nil && !strings.Contains(string(b), fmt.Sprint(s.Start)) {
			t.Errorf("start %d is not in %q", s.Start, b)
		}
	})
}
