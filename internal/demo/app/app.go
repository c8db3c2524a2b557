// Package app is the application of the demo: a small HTTP server with keyed data, a cache, real CPU and memory work,
// hooks to reload and to soft reset it, and faults that can be planted in it from outside.
//
// It listens on $PORT and serves
//
//	GET  /item/{key}       one item, rendered and cached
//	POST /item/{key}       counts a note on the item: the state that a soft reset keeps
//	GET  /search?q=WORD    the first items that hold the word
//	GET  /report/{key}     an item and its neighbours, about ten times the work
//	GET  /healthz          204
//	POST /admin/reload     loads data and configuration again
//	POST /admin/soft-reset the same into a new store, with a new lock and an empty cache; the counts stay
//
// Its data directory $FETTLE_DATA is a copy of what [WriteImage] made. Faults come over a unix socket of the demo
// (see [Console]), past the router and unknown to the daemon. When that connection ends the application ends too, so
// that nothing outlives a demo that was killed.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopWithin is how long the requests in flight may take to finish after SIGTERM; the grace of a pool is longer.
const stopWithin = 5 * time.Second

// Main runs the application until SIGTERM and returns the exit code.
func Main(args []string) int {
	fs := flag.NewFlagSet("internal-demo-app", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	control := fs.String("control", "", "unix socket of the demo from which faults are planted")
	backend := fs.String("backend", "", "URL of a service that is asked before each item is answered")
	if err := fs.Parse(args); err != nil {
		fmt.Fprintln(os.Stderr, "demo application:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *control, *backend); err != nil {
		fmt.Fprintln(os.Stderr, "demo application:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, control, backend string) error {
	s, err := newServer(os.Getenv("FETTLE_DATA"))
	if err != nil {
		return err
	}
	s.backend = backend
	s.warm()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if control != "" {
		if err := obey(control, s, cancel); err != nil {
			return err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	hs := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(l) }()
	fmt.Printf("%s serves %d items on %s\n", os.Getenv("FETTLE_INSTANCE"), len(s.store.Load().data().items), l.Addr())
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel = context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if err := hs.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
