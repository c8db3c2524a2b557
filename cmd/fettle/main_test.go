package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the fettle command, and a server to be run by it, for scripts and tests alike.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fettle":     main,
		"testserver": testServer,
	})
}

// TestScripts runs a script a user story.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "st"))
			e.Setenv("LANG", "C.UTF-8")
			e.Defer(func() { nothingLeft(e) })
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": await,
			"fetch": fetch,
			"gone":  gone,
		},
	})
}

// nothingLeft fails a script that leaves processes behind, and ends them.
func nothingLeft(e *testscript.Env) {
	for range 50 {
		if len(processes(e.WorkDir)) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	left := processes(e.WorkDir)
	for pid := range left {
		p, err := os.FindProcess(pid)
		if err == nil {
			_ = p.Kill()
		}
	}
	if len(left) > 0 {
		e.T().Log("processes left behind: ", left)
		e.T().FailNow()
	}
}

// processes are those whose environment or command line names the directory.
func processes(dir string) map[int]string {
	out := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		cmd, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if bytes.Contains(env, []byte(dir)) || bytes.Contains(cmd, []byte(dir)) {
			out[pid] = string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '}))
		}
	}
	return out
}

// await runs a command until its output matches: await REGEXP COMMAND [ARG...].
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await REGEXP COMMAND [ARG...]")
	}
	re := regexp.MustCompile(args[0])
	var out []byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var err error
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir, cmd.Env = ts.MkAbs("."), environ(ts)
		out, err = cmd.CombinedOutput()
		if err == nil && re.Match(out) {
			return
		}
	}
	ts.Fatalf("await: no match for %q in time; last:\n%s", args[0], out)
}

func environ(ts *testscript.TestScript) []string {
	env := os.Environ()
	for _, k := range []string{"XDG_STATE_HOME", "HOME", "WORK", "TMPDIR", "FETTLE_STATE", "FETTLE_API"} {
		env = append(env, k+"="+ts.Getenv(k))
	}
	return env
}

// fetch requests a path from a pool by GET and matches the answer: fetch STATE-DIR-RELATIVE POOL PATH REGEXP.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: fetch ADDRESS PATH REGEXP")
	}
	resp, err := http.Get("http://" + args[0] + args[1])
	if err != nil {
		if neg {
			return
		}
		ts.Fatalf("fetch: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if regexp.MustCompile(args[2]).Match(b) == neg {
		ts.Fatalf("fetch %s%s: %s %s", args[0], args[1], resp.Status, b)
	}
}

// gone fails if a process of this script runs whose command line matches.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	re := regexp.MustCompile(strings.Join(args, " "))
	for pid, cmd := range processes(ts.Getenv("WORK")) {
		if re.MatchString(cmd) {
			ts.Fatalf("process %d still runs: %s", pid, cmd)
		}
	}
}

// testServer is a server that tells who it is. FAULT makes it a bad one.
func testServer() {
	log.SetFlags(0)
	id := os.Getenv("FETTLE_INSTANCE")
	fmt.Printf("hello from %s\n", id)
	switch os.Getenv("FAULT") {
	case "crash":
		fmt.Println("cannot open the database")
		os.Exit(3)
	case "deaf":
		fmt.Println("waiting for nothing")
		select {}
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.URL.Query().Get("sleep")); err == nil {
			time.Sleep(d)
		}
		fmt.Fprintf(w, "%s pid %d\n", id, os.Getpid())
	})
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) {
		fmt.Println("goodbye")
		os.Exit(7)
	})
	go grow()
	log.Fatal(http.Serve(l, nil))
}

// grow takes 128 MiB at a signal and keeps them.
func grow() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	var kept [][]byte
	for range c {
		for range 128 {
			kept = append(kept, bytes.Repeat([]byte{byte(len(kept))}, 1<<20))
		}
		fmt.Println("kept", len(kept))
	}
}
