package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/telemetry"
)

// caller serves requests at $PORT: each asks another server, and is answered when that is.
func caller(address string) int {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		resp, err := http.Get("http://" + address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body) // who left does not hear it
	})
	if err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// What all instances call becomes slow, and since their clients wait for their answers, there are fewer requests as
// well: it is called a slow dependency, by the time that calls take, and no change of the work.
func TestASlowDependencyIsNotLessWork(t *testing.T) {
	if testing.Short() {
		t.Skip("learns for half a minute")
	}
	probes, err := telemetry.OpenProbes(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skip(err)
	}
	probes.Close()
	t.Parallel()
	var slow atomic.Int64 // nanoseconds
	slow.Store(int64(5 * time.Millisecond))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Duration(slow.Load()))
		fmt.Fprintln(w, strings.Repeat("x", 500))
	})}
	go backend.Serve(l)
	t.Cleanup(func() { backend.Close() })

	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := front.Addr().String()
	front.Close() // it only told a free port
	p := fettle.Pool{
		Name: "web", Mode: fettle.Observe, Listen: address, Size: fettle.Sizing{Min: 3},
		Image:  fettle.Image{Command: []string{os.Args[0], "test-caller", l.Addr().String()}},
		Detect: fettle.Detect{Interval: fettle.Duration(500 * time.Millisecond), Learn: fettle.Duration(20 * time.Second), Persist: fettle.Duration(2 * time.Second)},
	}
	p.Telemetry.Network = fettle.On
	d := runs(t, p)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if resp, err := http.Get("http://" + address); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	defer wg.Wait()
	defer stop()
	d.learn()
	slow.Store(int64(100 * time.Millisecond))
	d.until("the calls are what is said of the pool", func(p api.PoolStatus) bool {
		return p.Verdict.Level >= fettle.Medium && p.Verdict.Cause == fettle.DependencyChanged &&
			slices.ContainsFunc(p.Verdict.Evidence, func(e fettle.Evidence) bool { return e.Dimension == fettle.DimCallTime })
	})
}
