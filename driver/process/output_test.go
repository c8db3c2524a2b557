package process

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCutUnderAWriter cuts a file while somebody appends to it all the time: no line is lost, torn or moved.
func TestCutUnderAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), outputFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		pad := bytes.Repeat([]byte("."), 200)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := fmt.Fprintf(f, "%09d %s\n", n, pad); err != nil {
				t.Error(err)
				return
			}
		}
	})
	d := &Driver{log: slog.New(slog.DiscardHandler)}
	for cuts := 0; cuts < 8; {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() <= maxOutput {
			continue
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = collapse(file, 0)
		if err == nil {
			err = collapse(file, 1<<20)
		}
		file.Close()
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this file system cannot cut without loss")
		}
		if err := errors.Join(err, d.cutOutput(path)); err != nil {
			t.Fatal(err)
		}
		cuts++
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkLines(t, b)
	}
}

// checkLines checks that all lines but the first and the last are whole and in order.
func checkLines(t *testing.T, b []byte) {
	t.Helper()
	lines := bytes.Split(b, []byte("\n"))
	want := -1
	for _, line := range lines[1 : len(lines)-1] {
		if len(line) != 210 {
			t.Fatalf("a torn line: %q", line)
		}
		n, err := strconv.Atoi(string(line[:9]))
		if err != nil || want >= 0 && n != want {
			t.Fatalf("line %q where line %d is due", line[:9], want)
		}
		want = n + 1
	}
}
