package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/fettle-dev/fettle/internal/demo/load"
)

// report prints the end: the table, or the JSON with what went wrong beside it.
func (d *demo) report(r Result) error {
	lost := losses(d.gen.Ledger.Lost(d.outages, 10))
	d.story.text(table(r) + lost)
	if !d.JSON {
		return nil
	}
	if d.story.w == io.Discard && d.Err != nil && !r.OK() {
		if _, err := io.WriteString(d.Err, amiss(r)+lost); err != nil {
			return fmt.Errorf("demo: print result: %w", err)
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("demo: result: %w", err)
	}
	if _, err := fmt.Fprintf(d.Out, "%s\n", b); err != nil {
		return fmt.Errorf("demo: print result: %w", err)
	}
	return nil
}

// losses lists requests that were lost to planned actions.
func losses(lost []load.Record) string {
	var b strings.Builder
	for _, r := range lost {
		fmt.Fprintf(&b, "lost: %s\n", r)
	}
	return b.String()
}
