package process_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fettle-dev/fettle/driver/process"
)

// TestMain makes the test binary what the tests run: the exec shim, the servers, and a process that owns a driver.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case process.ShimCommand:
			os.Exit(process.Shim(os.Args[2:]))
		case "app":
			os.Exit(app(os.Args[2], os.Args[3:]))
		case "owner":
			os.Exit(owner(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// app is a server in one of several shapes. Without an own handler SIGTERM ends it.
func app(shape string, args []string) int {
	switch shape {
	case "serve":
		return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	case "serve6":
		return serveOn("tcp", "[::1]:"+os.Getenv("PORT"))
	case "socket":
		return serveOn("unix", os.Getenv("FETTLE_SOCKET"))
	case "slow":
		time.Sleep(300 * time.Millisecond)
		return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	case "elsewhere":
		return serveOn("tcp", "127.0.0.1:0")
	case "crash":
		fmt.Fprintln(os.Stderr, "reading configuration")
		fmt.Fprintln(os.Stderr, "fatal: no such database: orders")
		return 3
	case "orphan": // serves once its parent has ended
		for strconv.Itoa(os.Getppid()) == args[0] {
			time.Sleep(time.Millisecond)
		}
		return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	case "daemonize":
		child := exec.Command(os.Args[0], "app", "orphan", strconv.Itoa(os.Getpid()))
		if err := child.Start(); err != nil {
			return 1
		}
		return 0
	case "family":
		return family()
	case "hog":
		return hog()
	case "chatter":
		return chatter(args)
	case "rendezvous":
		return rendezvous(args[0])
	case "sleep":
		select {}
	}
	return 2
}

func serveOn(network, addr string) int {
	ln, err := net.Listen(network, addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	state := ""
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			mu.Lock()
			state += "+hup"
			mu.Unlock()
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprint(w, state)
	})
	mux.HandleFunc("POST /state", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		state = string(b)
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, r.URL.Query().Get("name"))
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("GET /args", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Args, "\n")) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "/proc/self/status") })
	mux.HandleFunc("GET /cwd", func(w http.ResponseWriter, _ *http.Request) {
		d, _ := os.Getwd()
		fmt.Fprint(w, d)
	})
	mux.HandleFunc("POST /soft-reset", func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		state += "+reset"
	})
	mux.HandleFunc("POST /exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		fmt.Fprintln(os.Stderr, "leaving as asked")
		os.Exit(code)
	})
	mux.HandleFunc("POST /fail", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "cache is cold", http.StatusServiceUnavailable)
	})
	fmt.Println("serving on", ln.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(ln, mux))
	return 1
}

// family is a master with two workers, one of which left the session, and a grandchild.
func family() int {
	dir := os.Getenv("FETTLE_DATA")
	start := func(name string, attr *syscall.SysProcAttr, args ...string) bool {
		c := exec.Command(os.Args[0], append([]string{"app"}, args...)...)
		c.SysProcAttr = attr
		if c.Start() != nil {
			return false
		}
		return os.WriteFile(filepath.Join(dir, name+".pid"), []byte(strconv.Itoa(c.Process.Pid)), 0o600) == nil
	}
	if !start("worker", nil, "sleep", "1") || !start("strayed", &syscall.SysProcAttr{Setsid: true}, "sleep", "2") {
		return 1
	}
	return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
}

// hog serves, and takes memory when asked, from the system itself: a race detector doubles what Go allocates.
func hog() int {
	http.HandleFunc("POST /take", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("mib"))
		if _, err := syscall.Mmap(-1, 0, n<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		return 1
	}
	fmt.Fprintln(os.Stderr, http.Serve(ln, nil))
	return 1
}

// chatter writes numbered lines, args[0] MiB of them, and serves then.
func chatter(args []string) int {
	mib, _ := strconv.Atoi(args[0])
	line := 0
	for n := 0; n < mib<<20; line++ {
		k, err := fmt.Printf("line %08d of what a talkative program says all day long, again and again\n", line)
		if err != nil {
			return 1
		}
		n += k
	}
	fmt.Println("the last line")
	return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
}

// rendezvous tells its port in a file, waits for another file, and serves then.
func rendezvous(dir string) int {
	if os.WriteFile(filepath.Join(dir, "port.tmp"), []byte(os.Getenv("PORT")), 0o600) != nil {
		return 1
	}
	if os.Rename(filepath.Join(dir, "port.tmp"), filepath.Join(dir, "port")) != nil {
		return 1
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go")); err == nil {
			return serveOn("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		}
		time.Sleep(time.Millisecond)
	}
}
