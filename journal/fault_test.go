package journal

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// childMode says, in the environment, that the test binary is to be a child that appends.
const childMode = "FETTLE_JOURNAL_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "append":
		os.Exit(appendForEver(os.Args[1], os.Args[2]))
	case "limited":
		os.Exit(appendUnderLimit(os.Args[1]))
	}
}

// appendForEver appends events numbered from a first one and prints the number of each that is durable.
func appendForEver(path, first string) int {
	s, err := Open(path, quiet())
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	n, err := strconv.Atoi(first)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	acks := make(chan ft.Written, 64)
	p := s.Pool("web", func(w ft.Written) { acks <- w })
	const window = 8 // several batches in flight, so that some share a transaction
	for i := range window {
		p.Append(uint64(n+i), []ft.Event{numbered(n + i)})
	}
	next := n + window
	for w := range acks {
		if w.Err == nil {
			fmt.Println(w.Batch)
		}
		p.Append(uint64(next), []ft.Event{numbered(next)})
		next++
	}
	return 0
}

func numbered(n int) ft.Event {
	return &ft.Exited{Stamp: ft.Stamp{At: t0}, Ref: ft.Ref{ID: "web-1", Generation: 1}, Exit: ft.Exit{Code: n, Known: true}}
}

// numbers are those of the durable events, in order.
func numbers(t *testing.T, path string) (ns []int) {
	t.Helper()
	s := open(t, path)
	if s.Recovered() != "" {
		t.Fatalf("journal found damaged: %s", s.Recovered())
	}
	err := s.Events(t.Context(), "web", 0, func(_ uint64, e ft.Event) error {
		ns = append(ns, e.(*ft.Exited).Exit.Code)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestAcknowledgedEventsSurviveKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	rnd := rand.New(rand.NewPCG(1, 2))
	total, first := 0, 0
	for round := range 30 {
		acked := killed(t, path, first, 1+rnd.IntN(40), time.Duration(round%2*rnd.IntN(3000))*time.Microsecond)
		total += len(acked)
		have := map[int]int{}
		for i, n := range numbers(t, path) {
			have[n]++
			first = max(first, n+1)
			if i > 0 && have[n] > 1 {
				t.Fatalf("round %d: event %d is there twice", round, n)
			}
		}
		for _, n := range acked {
			if have[n] == 0 {
				t.Fatalf("round %d: event %d was acknowledged and is lost", round, n)
			}
		}
	}
	t.Logf("%d acknowledged events over 30 kills, all there", total)
}

// killed runs a child until it has acknowledged so many events and a little longer, kills it, and returns all that
// it acknowledged.
func killed(t *testing.T, path string, first, acks int, longer time.Duration) (acked []int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path, strconv.Itoa(first))
	cmd.Env = append(os.Environ(), childMode+"=append")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			// A line cut off by the kill was never acknowledged in full.
			if len(acked) >= acks {
				break
			}
			t.Fatalf("child: %s", lines.Text())
		}
		if acked = append(acked, n); len(acked) == acks {
			time.Sleep(longer) // half of the kills come at once after an acknowledgement, half amid the next ones
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("child ended by itself: %v", err)
	}
	return acked
}

// fill appends batches until one is reported as failing, and returns the number of the last one appended.
func fill(t *testing.T, p *Pool, o *outcomes) (last uint64) {
	t.Helper()
	big := &ft.Judged{Stamp: ft.Stamp{At: t0}, Text: strings.Repeat("x", 32<<10)}
	await(t, "a failing write", func() bool {
		last++
		p.Append(last, []ft.Event{big})
		return failures(o) > 0
	})
	return last
}

func failures(o *outcomes) (n int) {
	for _, w := range o.all() {
		if w.Err != nil {
			n++
		}
	}
	return n
}

func TestFullDiskIsSaidAndPasses(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	path := filepath.Join(dir, "journal.db")
	s := open(t, path)
	write(t, ballast, make([]byte, 1<<20))
	var o outcomes
	p := s.Pool("web", o.written)
	last := fill(t, p, &o)
	p.Append(last+1, []ft.Event{numbered(1)})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if w := o.await(t, last+1); w.Lost {
		t.Fatalf("after the disk had room again: %+v", w)
	}
	es, err := s.Query(t.Context(), Filter{})
	if err != nil || uint64(len(es)) != last+1 {
		t.Errorf("%d entries, %v; want %d", len(es), err, last+1)
	}
	once := map[uint64]int{}
	for _, w := range o.all() {
		if w.Err != nil {
			once[w.Batch]++
		}
	}
	for b, n := range once {
		if n != 1 {
			t.Errorf("the failure of batch %d was reported %d times", b, n)
		}
	}
}

// appendUnderLimit fills a journal up to a file size limit, raises the limit, and checks that nothing is missing.
func appendUnderLimit(path string) int {
	var hard syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &hard); err != nil {
		fmt.Println("skip:", err)
		return 0
	}
	s, err := Open(path, quiet())
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 256 << 10, Max: hard.Max}); err != nil {
		fmt.Println("skip:", err)
		return 0
	}
	var o outcomes
	p := s.Pool("web", o.written)
	last := uint64(0)
	for failures(&o) == 0 && last < 10_000 {
		last++
		p.Append(last, []ft.Event{&ft.Judged{Stamp: ft.Stamp{At: t0}, Text: strings.Repeat("x", 8<<10)}})
		time.Sleep(time.Millisecond)
	}
	said := failures(&o)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &hard); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	err = s.Close()
	if said == 0 || err != nil {
		fmt.Printf("error: %d failures said, close: %v\n", said, err)
		return 1
	}
	fmt.Println("appended", last)
	return 0
}

func TestFileSizeLimitIsSaidAndPasses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childMode+"=limited")
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		t.Fatalf("child: %v: %s", err, text)
	}
	if why, ok := strings.CutPrefix(text, "skip: "); ok {
		t.Skipf("file sizes cannot be limited here: %s", why)
	}
	s := open(t, path)
	es, err := s.Query(t.Context(), Filter{})
	if err != nil || fmt.Sprintf("appended %d", len(es)) != text {
		t.Errorf("%d entries, %v; the child: %s", len(es), err, text)
	}
}

// lock holds the file's write lock on another connection, as a stray program would.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path, "synchronous(FULL)"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = errors.Join(tx.Rollback(), db.Close()) }
}

func TestHangingWriteDelaysOnlyTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	s := open(t, path)
	s.bound = 40
	unlock := lock(t, path)
	var o outcomes
	p := s.Pool("web", o.written)
	health := &ft.Health{Stamp: ft.Stamp{At: t0}}
	for i := range 100 {
		p.Append(uint64(1+i), []ft.Event{numbered(i), health})
	}
	lost := 0
	for _, w := range o.all() {
		if w.Lost {
			lost++
			if !errors.Is(w.Err, ErrFull) {
				t.Errorf("lost batch: %v, want %v", w.Err, ErrFull)
			}
		}
	}
	if lost == 0 || s.Dropped() == 0 {
		t.Errorf("%d batches lost, %d events dropped: want both above the bound", lost, s.Dropped())
	}
	await(t, "the failure being said", func() bool { return failures(&o) > lost })
	unlock()
	var want []int
	lostBatch := map[uint64]bool{}
	for _, w := range o.all() {
		lostBatch[w.Batch] = lostBatch[w.Batch] || w.Lost
	}
	for i := range 100 {
		if !lostBatch[uint64(1+i)] {
			o.await(t, uint64(1+i))
			want = append(want, i)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	es, err := s.Query(t.Context(), Filter{Kinds: []string{"exited"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, e := range es {
		got = append(got, e.Event.(*ft.Exited).Exit.Code)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("kept %v, want %v in this order", got, want)
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	s := open(t, path)
	defer lock(t, path)()
	var o outcomes
	s.Pool("web", o.written).Append(1, []ft.Event{numbered(1)})
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "1 events are not written") {
		t.Errorf("close: %v, want it to say what is not written", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SaveProfile(ctx, "web", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("profile after close: %v", err)
	}
}
