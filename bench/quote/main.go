// Command quote brings a report's numbers into the documents, so that nobody copies them:
//
//	quote table REPORT.json DOCUMENT.md   the table between the two comments "Quoted from REPORT.json"
//	quote plot REPORT.json PICTURE.svg    the CPU of sampling by the number of instances
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "quote:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 || args[0] != "table" && args[0] != "plot" {
		return errors.New("usage: quote table REPORT.json DOCUMENT.md, or quote plot REPORT.json PICTURE.svg")
	}
	r, err := report.Read(args[1])
	if err != nil {
		return err
	}
	var out string
	if args[0] == "plot" {
		p := sampling(r)
		if len(p.series) == 0 {
			return fmt.Errorf("%s has no rows \"N instances at 1 Hz: ...\"", args[1])
		}
		out = p.svg()
	} else {
		doc, err := os.ReadFile(args[2])
		if err != nil {
			return fmt.Errorf("read the document: %w", err)
		}
		if out, err = quoted(string(doc), args[1], r.Markdown()); err != nil {
			return fmt.Errorf("%s: %w", args[2], err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(args[2]), 0o755); err != nil { //nolint:gosec // the same
		return fmt.Errorf("write %s: %w", args[2], err)
	}
	if err := os.WriteFile(args[2], []byte(out), 0o644); err != nil { //nolint:gosec // a document for all to see
		return fmt.Errorf("write %s: %w", args[2], err)
	}
	return nil
}

// quoted puts the table between the comments that name the report.
func quoted(doc, source, table string) (string, error) {
	from, to := "<!-- Quoted from "+source+": from here -->\n", "<!-- to here: "+source+" -->\n"
	i, j := strings.Index(doc, from), strings.Index(doc, to)
	if i < 0 || j < i {
		return "", fmt.Errorf("has no lines %q and %q", strings.TrimSpace(from), strings.TrimSpace(to))
	}
	return doc[:i+len(from)] + "\n" + table + "\n" + doc[j:], nil
}
