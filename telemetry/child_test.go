package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// The test binary, executed again, is the process that is measured: it obeys lines on its standard input and answers
// each with one line.
const childMark = "FETTLE_TELEMETRY_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMark) {
	case "":
	case "headless": // its main thread ends, the others go on
		go obey()
		_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // not raw: the runtime would wait for the thread
	case "looker":
		look()
		return
	case again:
		fmt.Println("done") // with exec
		obey()
		return
	default:
		obey()
		return
	}
	goleak.VerifyTestMain(probedTests{m})
}

func obey() {
	in := bufio.NewScanner(os.Stdin)
	var kid *exec.Cmd
	var kidIn io.WriteCloser
	var kidOut *bufio.Reader
	for in.Scan() {
		word, arg, _ := strings.Cut(in.Text(), " ")
		n, _ := strconv.Atoi(arg)
		answer := "done"
		switch word {
		case "burn": // milliseconds of CPU
			burn(time.Duration(n) * time.Millisecond)
		case "calls": // system calls
			for range n {
				syscall.Getppid()
			}
		case "alloc": // bytes, each page touched
			b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				answer = err.Error()
				break
			}
			for i := 0; i < n; i += os.Getpagesize() {
				b[i] = 1
			}
		case "region": // bytes of small pages, each touched, for touch and dirty
			answer = mapRegion(n)
		case "touch", "dirty": // FROM TO in MiB of the region, read or written to once a page
			access(word == "dirty", arg)
		case "storm": // so many threads, one after the other, each running for some 2 ms
			for range n {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					runtime.LockOSThread() // the thread ends with it
					burn(2 * time.Millisecond)
				}()
				<-ended
			}
		case "read": // BYTES FILE
			answer = readFile(arg)
		case "fds":
			for range n {
				if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil {
					answer = err.Error()
				}
			}
		case "threads":
			started := make(chan bool)
			for range n {
				go func() {
					runtime.LockOSThread()
					started <- true
					select {}
				}()
			}
			for range n {
				<-started
			}
		case "write": // bytes to a file
			answer = write(n)
		case "sleep": // times, each a switch
			for range n {
				time.Sleep(time.Millisecond)
			}
		case "kid": // a kid that burns so many milliseconds and then lingers
			kid = self()
			kidIn, _ = kid.StdinPipe()
			out, _ := kid.StdoutPipe()
			kidOut = bufio.NewReader(out)
			if err := kid.Start(); err != nil {
				answer = err.Error()
			}
			fmt.Fprintf(kidIn, "burn %s\n", arg)
		case "burnt": // wait until the kid has burnt
			if _, err := kidOut.ReadString('\n'); err != nil {
				answer = err.Error()
			}
		case "kidsay": // a line to the kid, which obeys it
			fmt.Fprintln(kidIn, arg)
			if _, err := kidOut.ReadString('\n'); err != nil {
				answer = err.Error()
			}
		case "release": // let the kid end, and do not wait for it
			kidIn.Close()
		case "reap":
			kidIn.Close()
			if err := kid.Wait(); err != nil {
				answer = err.Error()
			}
		case "shorts": // so many kids one after the other, each burning 20 ms
			for range n {
				k := self()
				k.Stdin = strings.NewReader("burn 20\n")
				if err := k.Run(); err != nil {
					answer = err.Error()
				}
			}
		case "ignore":
			signal.Ignore(syscall.SIGCHLD)
		case "net": // see obeyNet
			answer = obeyNet(arg)
		case "kidnet": // the kid does it
			fmt.Fprintf(kidIn, "net %s\n", arg)
			line, err := kidOut.ReadString('\n')
			if answer = strings.TrimSpace(line); err != nil {
				answer = err.Error()
			}
		case "kiddo": // the kid does the rest of the line
			fmt.Fprintln(kidIn, arg)
			line, err := kidOut.ReadString('\n')
			if answer = strings.TrimSpace(line); err != nil {
				answer = err.Error()
			}
		case "exec": // itself again, by a thread that is not the first
			answer = execByThread()
		case "usage":
			answer = usageLine()
		}
		fmt.Println(answer)
	}
}

var (
	region []byte
	sunk   byte
)

func mapRegion(n int) string {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err.Error()
	}
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	region = b
	access(true, fmt.Sprintf("0 %d", n>>20))
	return "done"
}

func readFile(arg string) string {
	var n int
	var path string
	_, _ = fmt.Sscan(arg, &n, &path)
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := io.CopyN(io.Discard, f, int64(n)); err != nil {
		return err.Error()
	}
	return "done"
}

func access(write bool, span string) {
	var from, to int
	_, _ = fmt.Sscan(span, &from, &to)
	for i := from << 20; i < to<<20; i += os.Getpagesize() {
		if write {
			region[i]++
		}
		sunk += region[i]
	}
}

func self() *exec.Cmd { return selfAs("1") }

func selfAs(what string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), childMark+"="+what)
	return c
}

func burn(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
		return time.Duration(ts.Nano())
	}
	for x, from := 1, spent(); spent()-from < d; {
		for range 1000 {
			x = x*1664525 + 1013904223
		}
	}
}

func write(n int) string {
	f, err := os.CreateTemp(".", "written-*")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(f.Name())
	defer f.Close()
	chunk := make([]byte, 1<<16)
	for ; n > 0; n -= len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return err.Error()
		}
	}
	return "done"
}

// usageLine is what the kernel says of the process, and of its children that it waited for.
func usageLine() string {
	line := ""
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return err.Error()
		}
		line += fmt.Sprintf("%d %d %d %d %d ", u.Utime.Nano(), u.Stime.Nano(), u.Minflt, u.Majflt, u.Nvcsw+u.Nivcsw)
	}
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return err.Error()
	}
	v := make([]uint64, 2)
	parseKeyed(b, ioKeys, v)
	return line + fmt.Sprintf("%d %d", v[0], v[1])
}

// kernel is what usageLine says; times in seconds.
type kernel struct{ user, system, minor, switches, kidsUser, kidsSystem, written float64 }

type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

// newChild starts the test binary as a child that leads its own session.
func newChild(t testing.TB) *child { return newChildAs(t, self()) }

func newChildAs(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{t: t, cmd: cmd}
	c.cmd.Args[0] = "child of a test"
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c.cmd.Dir = t.TempDir()
	c.cmd.Stderr = os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stdin, c.in = r, w
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(c.end)
	c.do("calls 1")
	return c
}

func (c *child) end() {
	c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// say sends a command without waiting for its answer; hear waits.
func (c *child) say(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) hear() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (c *child) do(line string) {
	c.t.Helper()
	c.say(line)
	if got := c.hear(); got != "done" {
		c.t.Fatalf("%s: %s", line, got)
	}
}

func (c *child) usage() kernel {
	c.t.Helper()
	c.say("usage")
	line := c.hear()
	var v [12]float64
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			c.t.Fatalf("usage: %s", line)
		}
		v[i] = n
	}
	return kernel{v[0] / 1e9, v[1] / 1e9, v[2], v[4], v[5] / 1e9, v[6] / 1e9, v[11]}
}

func (c *child) instance() ft.Instance {
	return ft.Instance{
		Ref:   ft.Ref{ID: "web-1", Generation: 1},
		Scope: ft.Scope{PID: c.cmd.Process.Pid},
	}
}
