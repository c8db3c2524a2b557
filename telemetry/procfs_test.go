package telemetry

import (
	"errors"
	"math"
	"os"
	"sync/atomic"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func attachTo(t testing.TB, in ft.Instance) ft.Reader {
	t.Helper()
	r, missing, err := ProcFS().Attach(in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for name, why := range missing {
		t.Logf("%s: %s", name, why)
	}
	return r
}

func readRow(t testing.TB, r ft.Reader) []float64 {
	t.Helper()
	row := make([]float64, procColumns)
	if err := r.Read(time.Now(), row, nil); err != nil {
		t.Fatal(err)
	}
	return row
}

// near fails unless got is within 10 % of want, or within the slack that a column's grain needs.
func near(t *testing.T, what string, got, want, slack float64) {
	t.Helper()
	if !(math.Abs(got-want) <= max(0.1*math.Abs(want), slack)) {
		t.Errorf("%s is %g, the kernel says %g", what, got, want)
	} else {
		t.Logf("%s %g, the kernel says %g", what, got, want)
	}
}

func TestProcessAgreesWithTheKernel(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance())
	before, was := readRow(t, r), c.usage()
	from := time.Now()
	c.do("burn 300")
	c.do("calls 300000")
	c.do("alloc 33554432")
	c.do("sleep 300")
	c.do("write 16777216")
	is, after := c.usage(), readRow(t, r)

	grown := func(col int) float64 { return after[col] - before[col] }
	const tick = 2. / clockTick
	near(t, "cpu", grown(colCPU), is.user+is.system-was.user-was.system, tick)
	near(t, "user", grown(colUser), is.user-was.user, tick)
	near(t, "system", grown(colSystem), is.system-was.system, tick)
	near(t, "minor faults", grown(colMinor), is.minor-was.minor, 50)
	near(t, "switches", grown(colSwitches), is.switches-was.switches, 30)
	near(t, "written", grown(colWritten), is.written-was.written, 65536)
	near(t, "resident", grown(colRSS), 32<<20, 4<<20)
	near(t, "anonymous", grown(colAnon), 32<<20, 3<<20)
	if w, most := grown(colWait), time.Since(from).Seconds()*after[colThreads]; !(w > 0 && w < most) {
		t.Errorf("waited %g s for a CPU, of %g", w, most)
	}
}

func TestThreadsAndDescriptorsAreCounted(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance())
	before := readRow(t, r)
	c.do("fds 123")
	c.do("threads 70")
	after := readRow(t, r)
	near(t, "descriptors", after[colFDs]-before[colFDs], 123, 0)
	near(t, "threads", after[colThreads]-before[colThreads], 70, 7)
	was := c.usage()
	before = readRow(t, r)
	c.do("burn 200")
	is, after := c.usage(), readRow(t, r)
	near(t, "cpu of many threads", after[colCPU]-before[colCPU], is.user+is.system-was.user-was.system, 2./clockTick)
}

// watch reads every few milliseconds until done is closed, and fails at each fall, and at each rise faster than all of
// the machine's CPUs could make it.
func watch(t *testing.T, r ft.Reader, done <-chan struct{}, reads *atomic.Int64) {
	t.Helper()
	last, at := readRow(t, r), time.Now()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-time.After(5 * time.Millisecond):
		}
		row, now := readRow(t, r), time.Now()
		reads.Add(1)
		for col, v := range row {
			if col == colRSS || col == colAnon || col == colThreads || col == colFDs || col == colTopThread {
				continue
			}
			if v < last[col] {
				t.Errorf("read %d: column %d fell from %g to %g", i, col, last[col], v)
			}
		}
		most := now.Sub(at).Seconds()*2.5 + 6./clockTick
		if d := row[colCPU] - last[colCPU]; d > most {
			t.Errorf("read %d: %g s of CPU in %s", i, d, now.Sub(at))
		}
		last, at = row, now
	}
}

func TestKidsStayInTheSum(t *testing.T) {
	for _, test := range []struct {
		name   string
		before string
		script []string
		waited bool
	}{
		{name: "one that is waited for", script: []string{"kid 300", "burnt", "reap"}, waited: true},
		{name: "one after the other", script: []string{"kid 100", "burnt", "reap", "kid 100", "reap", "kid 100", "burnt", "reap"}, waited: true},
		{name: "many short ones", script: []string{"shorts 8"}, waited: true},
		{name: "nobody waits", before: "ignore", script: []string{"kid 1000", "burnt", "until read", "release", "sleep 300"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newChild(t)
			if test.before != "" {
				c.do(test.before)
			}
			r := attachTo(t, c.instance())
			before, was := readRow(t, r), c.usage()
			done := make(chan struct{})
			var reads atomic.Int64
			go func() {
				defer close(done)
				for _, line := range test.script {
					if line == "until read" {
						for from := reads.Load(); reads.Load() < from+2; {
							time.Sleep(time.Millisecond)
						}
						continue
					}
					c.say(line)
					if got := c.hear(); got != "done" {
						t.Errorf("%s: %s", line, got)
					}
				}
			}()
			watch(t, r, done, &reads)
			is, after := c.usage(), readRow(t, r)
			want := is.user + is.system - was.user - was.system + is.kidsUser + is.kidsSystem - was.kidsUser - was.kidsSystem
			if !test.waited {
				// Of the kid the kernel tells nobody what it used: 1 s, and what its start took. Twice that would be 2.
				if got := after[colCPU] - before[colCPU] - want; got < 0.9 || got > 1.7 {
					t.Errorf("the kid used %g s", got)
				}
				return
			}
			near(t, "cpu", after[colCPU]-before[colCPU], want, 0.05)
			near(t, "user and system", after[colUser]+after[colSystem]-before[colUser]-before[colSystem], want, 0.05)
		})
	}
}

func TestSessionMembersAreFound(t *testing.T) {
	c := newChild(t)
	c.say("kid 400")
	c.hear()
	r := attachTo(t, c.instance()) // the kid is there already
	tree := r.(*tree)
	var both []float64
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		both = readRow(t, r)
		if len(tree.members) == 2 && tree.members[1].now.rss > 500 { // it runs, and is not just forked
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the kid was not found")
		}
	}
	c.do("reap")
	if row := readRow(t, r); !(row[colRSS] < both[colRSS] && row[colThreads] < both[colThreads]) {
		t.Errorf("with the kid %g bytes and %g threads, without %g and %g", both[colRSS], both[colThreads], row[colRSS], row[colThreads])
	}
}

func TestDeadInstanceReadsAsNothing(t *testing.T) {
	c := newChild(t)
	r := attachTo(t, c.instance())
	readRow(t, r)
	c.end()
	for i, v := range readRow(t, r) {
		if !math.IsNaN(v) {
			t.Errorf("column %d of a dead process is %g", i, v)
		}
	}
	if _, _, err := ProcFS().Attach(c.instance()); err == nil {
		t.Error("attached to a dead process")
	}
}

func TestReusedNumberIsRefused(t *testing.T) {
	in := ft.Instance{Ref: ft.Ref{ID: "web-1"}, Scope: ft.Scope{PID: os.Getpid(), StartTime: 1}}
	if _, _, err := ProcFS().Attach(in); err == nil {
		t.Error("attached to a process of another start time")
	}
	in.Scope.PID = 0
	if _, _, err := ProcFS().Attach(in); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("attached to no process: %v", err)
	}
}
