// Command plot draws what a report says as SVG: `go run ./bench/plot bench/results/telemetry.json docs/plots/telemetry.svg`
// draws the CPU of sampling by the number of instances, both axes logarithmic.
package main

import (
	"fmt"
	"os"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: plot REPORT.json PICTURE.svg, got %d arguments", len(args))
	}
	r, err := report.Read(args[0])
	if err != nil {
		return err
	}
	p := sampling(r)
	if len(p.series) == 0 {
		return fmt.Errorf("%s has no rows \"N instances at 1 Hz: ...\"", args[0])
	}
	if err := os.WriteFile(args[1], []byte(p.svg()), 0o644); err != nil { //nolint:gosec // a picture for all to see
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}
