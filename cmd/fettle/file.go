package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle/config"
)

func (c *cli) initCommand() *cobra.Command {
	var file string
	var force, schema bool
	cmd := &cobra.Command{
		Use:   "init [-- COMMAND [ARG...]]",
		Short: "Write a commented pool file to start from",
		Long: `Writes a commented fettle.yaml for the command. It starts with mode observe: Fettle judges and explains, and changes
nothing.

With --schema it writes fettle.schema.json beside it too, and a first line in the file that points editors to it: they
complete and check as you type.`,
		Example: `  fettle init -- node server.js
  fettle init --schema --file shop.yaml -- gunicorn app:app --bind '127.0.0.1:$PORT'
  fettle init --file - -- ./server      # to the output`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := dashed(cmd, args); err != nil {
				return err
			}
			text := config.Init(args, schema)
			if file == "-" {
				if schema {
					return invalid("init: --schema needs a file beside which it is written; fettle schema prints it")
				}
				_, err := c.out.Write(text)
				return err
			}
			if err := fresh(file, text, force); err != nil {
				return err
			}
			if schema {
				beside, err := writeSchema(file, force)
				if err != nil {
					return err
				}
				c.done("wrote %s, for editors", beside)
			}
			c.done("wrote %s; fettle validate %s checks it, fettle up %s runs it", file, file, file)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", defaultFile, "file to write; - is the output")
	cmd.Flags().BoolVar(&schema, "schema", false, "also write the JSON Schema for editors beside it")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}

// fresh writes a file that is not there yet; with force, over one that is.
func fresh(file string, text []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, flags, 0o644)
	if errors.Is(err, os.ErrExist) {
		return invalid("init: %s exists; --force overwrites it, --file names another", file)
	}
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(fmt.Errorf("init: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// writeSchema writes the schema beside a pool file and gives its path. One that is there and says the same stays.
func writeSchema(file string, force bool) (string, error) {
	path := filepath.Join(filepath.Dir(file), config.SchemaFile)
	b, err := schemaText()
	if err != nil {
		return path, err
	}
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, b) {
		return path, nil
	}
	return path, fresh(path, b, force)
}

// schemaText is the schema as fettle schema prints it.
func schemaText() ([]byte, error) {
	b, err := config.Schema()
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return append(bytes.TrimSpace(out.Bytes()), '\n'), nil
}

func (c *cli) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check a pool file",
		Long: `Says all that is wrong with a pool file (fettle.yaml by default): file, line, column, the line itself, and the nearest
right name. Nothing is started.`,
		Example: `  fettle validate
  fettle validate shop.yaml`,
		Args: atMost("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			file := defaultFile
			if len(args) == 1 {
				file = args[0]
			}
			pools, err := readPools(file)
			var bad *config.Error
			if c.format == "json" && errors.As(err, &bad) {
				c.code = 2
				return c.printJSON(map[string]any{"valid": false, "problems": bad.Problems})
			}
			if err != nil {
				return err
			}
			if c.format == "json" {
				return c.printJSON(map[string]any{"valid": true, "problems": []config.Problem{}})
			}
			c.say("%s is valid: %d %s", file, len(pools), plural(len(pools), "pool"))
			return nil
		},
	}
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func (c *cli) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the pool file, for editors",
		Long: `Prints the JSON Schema of the pool file. Editors that know it complete and check as you type; many take it from a first
line such as "# yaml-language-server: $schema=fettle.schema.json".`,
		Example: `  fettle schema > fettle.schema.json
  fettle init --schema -- ./server      # writes it beside the pool file`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			b, err := schemaText()
			if err != nil {
				return err
			}
			_, err = c.out.Write(b)
			return err
		},
	}
}
