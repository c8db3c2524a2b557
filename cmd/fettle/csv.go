package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/recording"
)

func (c *cli) exportCommand() *cobra.Command {
	var dir, result string
	var force bool
	cmd := &cobra.Command{
		Use:   "export FILE -o DIR",
		Short: "Write the measurements of a recording as CSV",
		Long: `Writes one CSV file a member, named after it, with a column for the time, each dimension and each category, and
schema.yaml, which says what the columns are: unit, role, transform. An empty cell is missing this time, - cannot be measured of
this member at all. fettle record import reads them again.`,
		Example: "  fettle record export web.rec -o web",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.resultAs(result); err != nil {
				return err
			}
			if dir == "" {
				return invalid("export: -o is missing: the directory to write to")
			}
			if err := notAFormat("export", dir); err != nil {
				return err
			}
			var files []func() error
			defer func() {
				for _, f := range files {
					_ = f() // they were only read
				}
			}()
			x, err := recording.Export(func() (*recording.Reader, error) {
				r, _, closed, err := openRecording(cmd.Context(), args[0])
				if err == nil {
					files = append(files, closed)
				}
				return r, err
			}, dir, force)
			if errors.Is(err, os.ErrExist) {
				return invalid("%s; --force overwrites it", err)
			}
			if err != nil {
				return err
			}
			if c.format == "json" {
				return c.printJSON(x)
			}
			if x.Broken != "" {
				c.say("%s: %s; what came before is written", args[0], x.Broken)
			}
			c.done("%s rows of %d %s in %s, with %s", grouped(x.Rows), x.Members, plural(x.Members, "member"), dir, recording.SchemaFile)
			return nil
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "directory to write to; it is made if it is missing")
	cmd.Flags().StringVar(&result, "format", "text", "form of the result: text or json")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite files that are there")
	return cmd
}

func (c *cli) importCommand() *cobra.Command {
	var file, schema, pool, result string
	var every time.Duration
	var force bool
	cmd := &cobra.Command{
		Use:   "import -o FILE --every D CSV...",
		Short: "Make a recording of telemetry from elsewhere",
		Long: `Makes a recording that fettle replay can judge. Each CSV file is a member of one pool; members that do the same work are
compared with each other. The first line may name the columns. A column "time" has times (RFC 3339, or seconds since 1970);
without it rows stand --every apart. Cells that are empty or NaN are missing.

--schema says what the columns are, in the form that fettle record export writes: which of them tell the work that is asked for
(role: load) and which are what doing it costs (role: response). Without it all are responses, so that a changed workload cannot
be told from a changed member.`,
		Example: `  fettle record import -o shop.rec --every 60s shop-*.csv
  fettle record import -o shop.rec --every 60s --schema schema.yaml shop-1.csv shop-2.csv
  fettle replay shop.rec --set mode=heal`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.resultAs(result); err != nil {
				return err
			}
			switch {
			case len(args) == 0:
				return invalid("import: the files are missing: one CSV file a member")
			case file == "":
				return invalid("import: -o is missing: the file to write, - is the output")
			}
			if err := notAFormat("import", file); err != nil {
				return err
			}
			o := recording.ImportOptions{Every: every, Pool: fettle.PoolName(pool), Fettle: version()}
			if schema != "" {
				b, err := os.ReadFile(schema)
				if err != nil {
					return invalid("import: %s", err)
				}
				o.Schema = b
			}
			if every == 0 && schema == "" {
				return invalid("import: --every is missing: the time between rows, such as 60s")
			}
			return c.importFiles(cmd.Context(), args, file, force, o)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&file, "output", "o", "", "file to write; - is the output")
	fl.DurationVar(&every, "every", 0, "time between rows, such as 60s (default that of the schema)")
	fl.StringVar(&schema, "schema", "", "what the columns are (YAML)")
	fl.StringVar(&pool, "name", "", "name of the pool (default that of the files where they are named POOL-N.csv, else imported)")
	fl.StringVar(&result, "format", "text", "form of the result: text or json")
	fl.BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}

func (c *cli) importFiles(ctx context.Context, names []string, file string, force bool, o recording.ImportOptions) error {
	var in []recording.Input
	for _, n := range names {
		f, err := os.Open(n)
		if err != nil {
			return invalid("import: %s", err)
		}
		defer f.Close()
		if sameFile(file, f) {
			return invalid("import: -o %s is one of the files to read: name another", file)
		}
		in = append(in, recording.Input{Name: n, R: f})
	}
	out, err := c.create("import", file, force)
	if err != nil {
		return err
	}
	got, err := importTo(ctx, out, in, o)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	switch {
	case c.format == "json":
		return c.result(out, struct {
			File string `json:"file"`
			*recording.Imported
		}{file, got})
	case out.output():
		fmt.Fprintf(c.err, "%s rows of %d %s\n", grouped(got.Rows), len(got.Members), plural(len(got.Members), "member"))
	default:
		c.done("%s rows of %d %s in %s frames, %d columns, in %s; fettle replay %s judges them",
			grouped(got.Rows), len(got.Members), plural(len(got.Members), "member"), grouped(got.Frames), len(got.Columns), file, file)
	}
	return nil
}

// importTo writes a recording, and keeps it where it is whole.
func importTo(ctx context.Context, out *sink, in []recording.Input, o recording.ImportOptions) (*recording.Imported, error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w := recording.NewWriter(out)
	got, err := recording.Import(in, o, func(line []byte) error {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return w.Line(line)
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(w.Flush(), out.keep()); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return got, nil
}

// errInterrupted is an import that was asked to end.
var errInterrupted = errors.New("interrupted; nothing is written")
