package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/internal/daemon"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "What this machine gives, and what Fettle does without the rest",
		Long: `Says for each thing of the machine that Fettle can use whether it is there, what was found, and what is done without it.
It asks the running daemon, which may have other rights; where none runs, it looks by itself. Nothing needs to be there:
Fettle works as a plain user without control groups, and then watches where it would limit.`,
		Example: `  fettle doctor
  fettle doctor -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := c.facts(cmd)
			if err != nil {
				return err
			}
			if c.format == "json" {
				return c.printJSON(facts)
			}
			c.printFacts(facts)
			return nil
		},
	}
}

// printFacts prints a table of at most [pageWidth] columns.
func (c *cli) printFacts(facts []api.Fact) {
	p := painter(c.out)
	name := len("WHAT")
	for _, f := range facts {
		name = max(name, visible(f.Name))
	}
	t := newTable(p, "", "WHAT", "HERE")
	for _, f := range facts {
		mark, here := p.green("yes"), f.Detail
		if !f.Available {
			mark, here = p.yellow("no"), f.Detail+"; without it: "+f.Without
		}
		for i, l := range wrap(here, pageWidth-name-len("yes")-4) {
			if i == 0 {
				t.row(mark, f.Name, l)
			} else {
				t.row("", "", l)
			}
		}
	}
	t.print(c.out, "")
}

// facts are the running daemon's if there is one: it may have other rights. Else those of this process.
func (c *cli) facts(cmd *cobra.Command) ([]api.Fact, error) {
	if cl, err := c.connect(cmd.Context()); err == nil {
		return cl.Doctor(cmd.Context())
	}
	state, err := c.stateDir()
	if err != nil {
		return nil, err
	}
	// What is found depends on the file system of the state directory, but looking must not make it, nor adopt anything.
	dir, err := os.MkdirTemp(existing(state), ".fettle-doctor-")
	if err != nil {
		if dir, err = os.MkdirTemp("", "fettle-doctor-"); err != nil {
			return nil, fmt.Errorf("doctor: %w", err)
		}
	}
	defer os.RemoveAll(dir)
	d, err := process.New(process.Options{StateDir: dir})
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	defer d.Close()
	facts := []api.Fact{}
	for _, f := range daemon.Facts(cmd.Context(), d, nil) {
		f.Detail = strings.ReplaceAll(f.Detail, dir, state)
		facts = append(facts, f)
	}
	return facts, nil
}

// existing is the nearest directory above path, or path itself, that there is.
func existing(path string) string {
	for {
		if st, err := os.Stat(path); err == nil && st.IsDir() || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// version is that of the module, or the commit that it was built from.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := b.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and that of the running daemon",
		Long:  "Prints the version of this binary and, where a daemon runs, its version, process, router and state directory.",
		Example: `  fettle version
  fettle version -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := struct {
				Version string       `json:"version"`
				Go      string       `json:"go"`
				OS      string       `json:"os"`
				Daemon  *api.Version `json:"daemon,omitempty"`
			}{Version: version(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
			if cl, err := c.connect(cmd.Context()); err == nil {
				if v, err := cl.Version(cmd.Context()); err == nil {
					out.Daemon = &v
				}
			}
			if c.format == "json" {
				return c.printJSON(out)
			}
			c.say("fettle %s, %s, %s", out.Version, out.Go, out.OS)
			if d := out.Daemon; d != nil {
				c.say("daemon %s, pid %d, router pid %d, %s", d.Version, d.PID, d.Router, d.StateDir)
				if d.Journal != "" {
					c.say("%s", d.Journal)
				}
			}
			return nil
		},
	}
}
