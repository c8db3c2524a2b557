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
	"time"

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
	if err := errors.Join(f.Truncate(1<<20), collapse(f, 512<<10), f.Truncate(0)); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this file system cannot cut without loss")
	} else if err != nil {
		t.Fatal(err)
	}
	// The writer writes all the time but while what it wrote is read, so that there is not too much of it.
	var reading sync.RWMutex
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
			reading.RLock()
			_, err := fmt.Fprintf(f, "%09d %s\n", n, pad)
			reading.RUnlock()
			if err != nil {
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
			time.Sleep(time.Millisecond)
			continue
		}
		if err := d.cutOutput(path); err != nil {
			t.Fatal(err)
		}
		cuts++
		reading.Lock()
		b, err := os.ReadFile(path)
		if err == nil {
			checkLines(t, b)
		}
		reading.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkLines checks that all lines but the first and the last are whole and in order.
func checkLines(t *testing.T, b []byte) {
	t.Helper()
	lines := bytes.Split(b, []byte("\n"))
	want := -1
	for _, line := range lines[1 : len(lines)-1] {
		if len(line) != 210 {
			t.Errorf("a torn line: %q", line)
			return
		}
		n, err := strconv.Atoi(string(line[:9]))
		if err != nil || want >= 0 && n != want {
			t.Errorf("line %q where line %d is due", line[:9], want)
			return
		}
		want = n + 1
	}
}
