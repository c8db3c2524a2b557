package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fettle-dev/fettle"
)

// recordDir is a directory with a CSV file that can be imported and one that cannot.
func recordDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"web-1.csv": "a,b\n1,2\n3,4\n", "bad.csv": "a,b\n1,2\n3,x\n", "old.rec": "precious"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return dir
}

// tell runs a command and gives its exit code and what it said on both outputs.
func tell(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

func leftovers(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(dir, ".fettle-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestImportKeepsWhatWasThere: a bad row costs nobody the file that was to be overwritten.
func TestImportKeepsWhatWasThere(t *testing.T) {
	dir := recordDir(t)
	code, _, msg := tell(t, "record", "import", "-o", "old.rec", "--force", "--every", "60s", "bad.csv")
	if code != 2 || !strings.Contains(msg, `bad.csv:3:2: "x" is no number`) {
		t.Errorf("code %d: %s", code, msg)
	}
	if b, err := os.ReadFile("old.rec"); err != nil || string(b) != "precious" {
		t.Errorf("what was there: %q, %v", b, err)
	}
	if code, _, msg := tell(t, "record", "import", "-o", "old.rec", "--every", "60s", "web-1.csv"); code != 2 || !strings.Contains(msg, "old.rec exists; --force overwrites it") {
		t.Errorf("code %d: %s", code, msg)
	}
	if code, _, msg := tell(t, "record", "import", "-o", "web-1.csv", "--force", "--every", "60s", "web-1.csv"); code != 2 || !strings.Contains(msg, "is one of the files to read") {
		t.Errorf("onto its own input: code %d: %s", code, msg)
	}
	if err := os.Symlink("old.rec", "link.rec"); err != nil {
		t.Fatal(err)
	}
	if code, _, msg := tell(t, "record", "import", "-o", "link.rec", "--force", "--every", "60s", "web-1.csv"); code != 0 {
		t.Fatalf("code %d: %s", code, msg)
	}
	st, err := os.Lstat("old.rec")
	if err != nil || st.Mode() != 0o600 || st.Size() < 20 {
		t.Errorf("what the link names: %v, %v", st, err)
	}
	if l, err := os.Readlink("link.rec"); err != nil || l != "old.rec" {
		t.Errorf("the link itself: %q, %v", l, err)
	}
	leftovers(t, dir)
}

// TestRecordingsIntoOtherThings: what is no file is written into, or left alone; it is never replaced or removed.
func TestRecordingsIntoOtherThings(t *testing.T) {
	dir := recordDir(t)
	importInto := func(name, csv string) (int, string) {
		code, _, msg := tell(t, "record", "import", "-o", name, "--force", "--every", "60s", csv)
		return code, msg
	}
	if code, msg := importInto(".", "web-1.csv"); code != 2 || !strings.Contains(msg, ". is a directory: name a file in it") {
		t.Errorf("code %d: %s", code, msg)
	}
	if code, msg := importInto("no/such.rec", "web-1.csv"); code != 2 || !strings.Contains(msg, "there is no directory no to write such.rec to") {
		t.Errorf("code %d: %s", code, msg)
	}
	if err := os.Symlink("nowhere", "lost"); err != nil {
		t.Fatal(err)
	}
	if code, msg := importInto("lost", "web-1.csv"); code != 2 || !strings.Contains(msg, "lost is a link to a file that is not there") {
		t.Errorf("code %d: %s", code, msg)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: "sock"}); err != nil {
		t.Fatal(err)
	}
	if code, msg := importInto("sock", "web-1.csv"); code != 2 || !strings.Contains(msg, "sock is neither a file nor a pipe") {
		t.Errorf("code %d: %s", code, msg)
	}
	if err := unix.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, csv := range []string{"bad.csv", "web-1.csv"} {
		read := make(chan []byte, 1)
		go func() {
			b, _ := os.ReadFile("pipe")
			read <- b
		}()
		code, msg := importInto("pipe", csv)
		if (code == 0) != (csv == "web-1.csv") {
			t.Errorf("%s into a pipe: code %d: %s", csv, code, msg)
		}
		if b := <-read; code == 0 && !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
			t.Errorf("the pipe gave %q", b)
		}
	}
	for _, name := range []string{"sock", "pipe", "lost", "/dev/null"} {
		if name == "/dev/null" {
			importInto(name, "bad.csv")
		}
		if st, err := os.Lstat(name); err != nil || st.Mode().IsRegular() {
			t.Errorf("%s became %v, %v", name, st, err)
		}
	}
	leftovers(t, dir)
}

// TestRecordingsToTheOutputByName: a name of the output is the output.
func TestRecordingsToTheOutputByName(t *testing.T) {
	recordDir(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var msg bytes.Buffer
	// This process has another output than the command that is run here, which /dev/stdout would name.
	name := fmt.Sprintf("/proc/self/fd/%d", w.Fd())
	code := run(t.Context(), []string{"record", "import", "-o", name, "--every", "60s", "web-1.csv"}, w, &msg)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if code != 0 || err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) || bytes.Contains(b, []byte("rows of")) {
		t.Errorf("code %d, %v, %q, %s", code, err, b, &msg)
	}
	if !strings.Contains(msg.String(), "2 rows of 1 member") {
		t.Errorf("it said %q", &msg)
	}
}

// TestAFileIsThereOnceItIsKept: what a recording replaces is whole until then, and what came meanwhile is not replaced.
func TestAFileIsThereOnceItIsKept(t *testing.T) {
	dir := recordDir(t)
	c := &cli{out: io.Discard, err: io.Discard}
	content := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	write := func(s *sink, text string) {
		if _, err := s.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	over, err := c.create("record", "old.rec", true)
	if err != nil {
		t.Fatal(err)
	}
	write(over, "begun")
	if got := content("old.rec"); got != "precious" {
		t.Errorf("before it is kept the file holds %q", got)
	}
	if err := over.keep(); err != nil {
		t.Fatal(err)
	}
	write(over, ", and on")
	if got := content("old.rec"); got != "begun, and on" {
		t.Errorf("while it grows the file holds %q", got)
	}
	if err := over.Close(); err != nil || content("old.rec") != "begun, and on" {
		t.Errorf("after it ended: %q, %v", content("old.rec"), err)
	}
	late, err := c.create("record", "new.rec", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("new.rec", []byte("somebody else's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := late.keep(); !errors.Is(err, fettle.ErrInvalid) {
		t.Errorf("over what came meanwhile: %v", err)
	}
	if err := late.Close(); err != nil || content("new.rec") != "somebody else's" {
		t.Errorf("what came meanwhile: %q, %v", content("new.rec"), err)
	}
	leftovers(t, dir)
}

// TestOutputNamedLikeAForm: -o json is what other commands take, and here a file's name.
func TestOutputNamedLikeAForm(t *testing.T) {
	recordDir(t)
	for _, args := range [][]string{
		{"record", "web", "-o", "json"},
		{"record", "import", "-o", "json", "--every", "60s", "web-1.csv"},
		{"record", "export", "old.rec", "-o", "json"},
	} {
		code, _, msg := tell(t, args...)
		if code != 2 || !strings.Contains(msg, "./json if that is its name; --format json is the form of the result") {
			t.Errorf("%v: code %d: %s", args, code, msg)
		}
	}
	if _, err := os.Lstat("json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("json: %v", err)
	}
	code, out, msg := tell(t, "record", "import", "-o", "./json", "--every", "60s", "--format", "json", "web-1.csv")
	if code != 0 || !strings.Contains(out, `"file": "./json"`) || !strings.Contains(out, `"rows": 2`) {
		t.Errorf("code %d: %s%s", code, out, msg)
	}
	if code, out, msg = tell(t, "record", "export", "json", "-o", "csv", "--format", "json"); code != 0 || !strings.Contains(out, `"csv/web-1.csv"`) {
		t.Errorf("code %d: %s%s", code, out, msg)
	}
	if code, _, msg = tell(t, "record", "export", "json", "-o", "csv", "--format", "xml"); code != 2 || !strings.Contains(msg, `--format: "xml" is neither text nor json`) {
		t.Errorf("code %d: %s", code, msg)
	}
}
