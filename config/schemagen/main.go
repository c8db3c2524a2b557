// Command schemagen writes what is generated from the types of the pool file: the comments of their source as Go, and
// from these and the types themselves the JSON Schema and the reference. It is run by `go generate ./config`.
package main

import (
	"fmt"
	"go/format"
	"os"
	"path/filepath"

	"github.com/fettle-dev/fettle/config"
	"github.com/fettle-dev/fettle/config/internal/comments"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

// run does one of: comments FILE ROOT (the Go source of the comments of ROOT and of ROOT/config), docs FOLDER.
func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "comments":
		all, err := comments.Read(args[2], filepath.Join(args[2], "config"))
		if err != nil {
			return err
		}
		src, err := format.Source([]byte(comments.Source("config", all, config.TypeNames())))
		if err != nil {
			return fmt.Errorf("format what is generated: %w", err)
		}
		return comments.Write(args[1], string(src))
	case len(args) == 2 && args[0] == "docs":
		schema, err := config.Schema()
		if err != nil {
			return err
		}
		if err := comments.Write(filepath.Join(args[1], "fettle.schema.json"), string(schema)); err != nil {
			return err
		}
		return comments.Write(filepath.Join(args[1], "pool-file.md"), config.Reference())
	default:
		return fmt.Errorf("usage: schemagen comments FILE ROOT | docs FOLDER")
	}
}
