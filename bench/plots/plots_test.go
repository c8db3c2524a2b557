package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// picture reads a file: its text, and how many lines and strips it has.
func picture(t *testing.T, path string) (text string, lines, strips int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(b))); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return text, lines, strips
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		switch tok := tok.(type) {
		case xml.CharData:
			text += string(tok)
		case xml.StartElement:
			switch tok.Name.Local {
			case "polyline":
				lines++
			case "rect":
				strips++
			}
		}
	}
}

func TestPictures(t *testing.T) {
	first, again := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, again} {
		if err := run([]string{"-dir", dir}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cases() {
		path := filepath.Join(first, c.file+".svg")
		text, lines, strips := picture(t, path)
		for _, part := range []string{c.title, c.what, c.shows, "threshold", "web-4"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s does not say %q", c.file, part)
			}
		}
		if lines < 2*members+1 || strips < 2*(members+1) {
			t.Errorf("%s has %d lines and %d strips: members' responses, scores or verdicts are missing", c.file, lines, strips)
		}
		is, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := os.ReadFile(filepath.Join(again, c.file+".svg")); err != nil || string(same) != string(is) {
			t.Errorf("%s is another picture when it is drawn again (%v)", c.file, err)
		}
	}
	if text, _, _ := picture(t, filepath.Join(first, "leak.svg")); !strings.Contains(text, "web-2 drifts (critical") {
		t.Errorf("the leak of web-2 is not said to be critical: %s", text)
	}
}
