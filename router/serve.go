package router

import (
	"context"
	"log/slog"
	"os"

	ft "github.com/fettle-dev/fettle"
)

// Options of the router process.
type Options struct {
	Socket string // path of the control socket; its directory is made with mode 0700
	Log    *slog.Logger
}

// Serve is the router process: it answers on the control socket and serves the pools until ctx ends, then lets
// requests in flight finish. Listeners come over the control socket; those given here are served from the beginning.
func Serve(ctx context.Context, o Options, listeners map[ft.PoolName]*os.File) error {
	<-ctx.Done()
	return nil
}

// Main is the hidden subcommand that [Attach] runs: "fettle internal-router SOCKET". It returns the exit status.
func Main(args []string) (code int) {
	return 0
}
