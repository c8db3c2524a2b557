package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// listen serves the API, and the metrics where they have an address. stop ends both.
func (d *daemon) listen(wg *sync.WaitGroup) (socket string, stop func(), err error) {
	socket = d.o.Socket
	if socket == "" {
		if socket, err = socketPath(d.o.StateDir); err != nil {
			return "", nil, err
		}
	}
	ml, err := d.listenMetrics()
	if err != nil {
		return "", nil, err
	}
	l, err := unixListener(socket)
	if err != nil {
		if ml != nil {
			err = errors.Join(err, ml.Close())
		}
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	servers := []*http.Server{d.server(ctx, api.Handler(d, d.log))}
	d.serve(wg, servers[0], l)
	if ml != nil {
		d.bound = ml.Addr().String()
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", d.Metrics())
		servers = append(servers, d.server(ctx, mux))
		d.serve(wg, servers[1], ml)
	}
	return socket, func() {
		cancel() // ends streams
		for _, s := range servers {
			sctx, done := context.WithTimeout(context.Background(), time.Second)
			if err := s.Shutdown(sctx); err != nil {
				s.Close()
			}
			done()
		}
	}, nil
}

func (d *daemon) server(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
}

func (d *daemon) serve(wg *sync.WaitGroup, s *http.Server, l net.Listener) {
	wg.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("api ended", "address", l.Addr().String(), "err", err)
		}
	})
}

// listenMetrics listens on the address for metrics, which must be one of this machine only: they are told to anybody
// who asks.
func (d *daemon) listenMetrics() (net.Listener, error) {
	if d.o.Metrics == "" {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(d.o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics address %q: %w: write one such as 127.0.0.1:9464: %w", d.o.Metrics, err, fettle.ErrInvalid)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, taken(fmt.Errorf("metrics: %w", err), d.o.Metrics)
	}
	return l, nil
}
