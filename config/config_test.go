package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the expected output anew")

// TestMessages checks what a user reads: each testdata/*.yaml has beside it what Parse says of it, or that it is fine.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := "fine\n"
			if _, err := Parse(path, b); err != nil {
				got = err.Error() + "\n"
			}
			want := strings.TrimSuffix(path, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err = os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(b), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A colon is the end of a key only where a space, or a mark of the list, is behind it.
func TestColonsInListsInBraces(t *testing.T) {
	for text, want := range map[string][]string{
		`a, "x", b:c`:                        {"a", "x", "b:c"},
		`gunicorn, --bind, :8080, app:app`:   {"gunicorn", "--bind", ":8080", "app:app"},
		`a:b:c, 80:80, 127.0.0.1:80, ::1`:    {"a:b:c", "80:80", "127.0.0.1:80", "::1"},
		`true:x, http://h:1/y, a b:c d`:      {"true:x", "http://h:1/y", "a b:c d"},
		"\n    a:b, # why\n    c:d # so\n  ": {"a:b", "c:d"},
		`"a:b", 'c: d', é:ü`:                 {"a:b", "c: d", "é:ü"},
	} {
		f, err := Parse("pool.yaml", []byte(inBraces(text)))
		if err != nil {
			t.Errorf("[%s]: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, f.Pools[0].Image.Command); diff != "" {
			t.Errorf("[%s]: %s", text, diff)
		}
	}
	for _, text := range []string{`a, b: c`, `"b":c`, `b: "c"`, `a:b: c`, `{b:c}`} {
		if ps := problemsOf(t, inBraces(text)); len(ps) == 0 {
			t.Errorf("[%s] is taken for a list of texts", text)
		}
	}
}

func inBraces(items string) string {
	return "pools: [{name: web, mode: observe, listen: \":8080\", image: {command: [" + items + "]}}]\n"
}

func problemsOf(t *testing.T, text string) []Problem {
	t.Helper()
	_, err := Parse("pool.yaml", []byte(text))
	var e *Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("%T: %v", err, err)
	}
	if e == nil {
		return nil
	}
	return e.Problems
}
