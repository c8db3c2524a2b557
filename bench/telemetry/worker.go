package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// workerArg makes this program a worker.
const workerArg = "internal-worker"

// worker is a small server of which many run: each second it touches half of its memory and sends itself a message. It
// ends with the program that started it, which holds the other end of its standard input.
func worker() {
	runtime.GOMAXPROCS(1)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until its end
		os.Exit(0)
	}()
	memory := make([]byte, 2<<20)
	for i := range memory {
		memory[i] = byte(i)
	}
	send, receive, err := pair()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	message := make([]byte, 200)
	for range time.Tick(time.Second) {
		for i := 0; i < len(memory)/2; i += 4096 {
			memory[i]++
		}
		if _, err := send.Write(message); err != nil {
			os.Exit(1)
		}
		if _, err := io.ReadFull(receive, message); err != nil {
			os.Exit(1)
		}
	}
}

// pair is a TCP connection of a program with itself.
func pair() (send, receive net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }() // its one connection is made
	if send, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	receive, err = l.Accept()
	return send, receive, err
}

// workers are running workers.
type workers struct {
	instances []ft.Instance
	commands  []*exec.Cmd
	keep      *os.File // while it is open, they run
}

// start starts n workers and waits until all are ready.
func start(n int) (*workers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start workers: %w", err)
	}
	stdin, keep, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start workers: %w", err)
	}
	defer func() { _ = stdin.Close() }() // theirs
	said, stdout, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start workers: %w", err)
	}
	defer func() { _ = said.Close() }() // all was read
	w := &workers{keep: keep}
	for i := range n {
		cmd := exec.Command(self, workerArg)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			_ = stdout.Close()
			return nil, errors.Join(fmt.Errorf("start worker %d: %w", i+1, err), w.stop())
		}
		w.commands = append(w.commands, cmd)
		w.instances = append(w.instances, instance(uint32(i+1), cmd.Process.Pid))
	}
	_ = stdout.Close() // theirs
	if _, err := io.ReadFull(said, make([]byte, n*len("ready\n"))); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for %d workers: %w", n, err), w.stop())
	}
	return w, nil
}

// stop ends the workers and waits for them.
func (w *workers) stop() error {
	err := w.keep.Close()
	for _, cmd := range w.commands {
		_ = cmd.Wait() // however it ended
	}
	return err
}

// instance is what a driver would say of a process.
func instance(serial uint32, pid int) ft.Instance {
	return ft.Instance{Ref: ft.Ref{ID: ft.NewInstanceID("bench", serial), Generation: 1}, Scope: ft.Scope{PID: pid}}
}
