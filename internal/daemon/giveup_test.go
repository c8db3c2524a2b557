package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/client"
)

// begun runs a daemon in this process until it is ready or has ended; end asks it to.
func begun(t *testing.T, o Options) (end context.CancelCauseFunc, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	done, ready := make(chan error, 1), make(chan struct{}, 1)
	o.Exe, o.Log = os.Args[0], slog.New(slog.DiscardHandler)
	o.Ready = func(*client.Client) { ready <- struct{}{} }
	go func() { done <- Run(ctx, o) }()
	select {
	case <-ready:
	case err := <-done:
		done <- err
	case <-time.After(time.Minute):
		t.Fatal("the daemon neither began nor ended within a minute")
	}
	return cancel, done
}

func answers(address string) bool {
	resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + address)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

// A daemon that cannot begin leaves nothing of its own behind, and the traffic of the one before alone.
func TestADaemonThatCannotBegin(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "f") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{}
	go backend.Serve(taken)
	defer backend.Close()
	refused := Options{StateDir: dir, Metrics: taken.Addr().String()}

	_, ended := begun(t, refused)
	if err := <-ended; err == nil {
		t.Error("began with an address that is taken")
	}
	if c, err := net.Dial("unix", filepath.Join(dir, "router", "control.sock")); err == nil {
		c.Close()
		t.Error("a router was left behind")
	}

	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := front.Addr().String()
	front.Close() // it only told a free port
	web := fettle.Pool{
		Name: "web", Mode: fettle.Observe, Listen: address, Size: fettle.Sizing{Min: 1},
		Image: fettle.Image{Command: []string{os.Args[0], "test-caller", taken.Addr().String()}},
	}
	serving := Options{StateDir: dir, Pools: []fettle.Pool{web}}
	end, ended := begun(t, serving)
	for until := time.Now().Add(time.Minute); !answers(address); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the pool does not serve")
		}
	}
	end(ErrKeep)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_, ended = begun(t, refused)
	if err := <-ended; err == nil {
		t.Error("began with an address that is taken")
	}
	if !answers(address) {
		t.Error("the pool of the daemon before does not serve any more")
	}
	end, ended = begun(t, serving)
	end(syscall.EINTR) // any but ErrKeep
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
