package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/driver/process"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "What this machine gives, and what Fettle does without the rest",
		Example: `  fettle doctor
  fettle doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := c.facts(cmd)
			if err != nil {
				return err
			}
			if c.format == "json" {
				return c.printJSON(facts)
			}
			p := painter(c.out)
			t := newTable(p, "", "WHAT", "HERE", "WITHOUT IT")
			for _, f := range facts {
				mark, without := p.green("yes"), ""
				if !f.Available {
					mark, without = p.yellow("no"), f.Without
				}
				t.row(mark, f.Name, f.Detail, without)
			}
			t.print(c.out, "")
			return nil
		},
	}
}

// facts are the running daemon's if there is one: it may have other rights. Else those of this process.
func (c *cli) facts(cmd *cobra.Command) ([]api.Fact, error) {
	if cl, err := c.connect(cmd.Context()); err == nil {
		return cl.Doctor(cmd.Context())
	}
	dir, err := os.MkdirTemp("", "fettle-doctor-")
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	defer os.RemoveAll(dir)
	d, err := process.New(process.Options{StateDir: filepath.Join(dir, "state")})
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	defer d.Close()
	facts := []api.Fact{}
	for _, f := range d.Facts() {
		facts = append(facts, api.Fact(f))
	}
	return facts, nil
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
		Example: `  fettle version
  fettle version -o json`,
		Args: cobra.NoArgs,
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
