package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// cli is one invocation of the command.
type cli struct {
	out, err io.Writer
	state    string // --state
	socket   string // --api
	format   string // --output
	began    bool   // a command runs: what fails from here on is not its usage
	code     int    // exit code of a command that ended well but has one of its own
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &cli{out: stdout, err: stderr}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return c.code
	}
	if !c.began && !errors.Is(err, fettle.ErrInvalid) {
		err = usageError(root, err)
	}
	c.report(err)
	return api.KindOf(err).Exit
}

// usageError is what cobra says of a command line, in this command's words.
func usageError(root *cobra.Command, err error) error {
	var name string
	if _, scan := fmt.Sscanf(err.Error(), "unknown command %q for", &name); scan == nil {
		return unknownCommand(root, name)
	}
	return invalid("%s", strings.TrimSpace(err.Error()))
}

// report prints an error: one line that says what, where, and what would be right, or JSON.
func (c *cli) report(err error) {
	text := plainError(err)
	if c.format == "json" {
		b, _ := json.Marshal(map[string]any{"error": api.Error{Kind: api.KindOf(err).Name, Message: text}})
		fmt.Fprintln(c.err, string(b))
		return
	}
	fmt.Fprintln(c.err, "fettle: "+text)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "fettle",
		Short: "Keeps pools of warm instances in good order",
		Long: `Fettle runs N copies of your server, learns how each of them behaves, notices when one drifts,
tunes it, resets or replaces it, and loses no request while it does.`,
		Example: `  fettle run -n 4 --listen :8080 -- node server.js
  fettle ps
  fettle explain node-2
  fettle demo`,
		Version:            version(),
		DisableSuggestions: true, // unknownCommand has its own
		CompletionOptions:  cobra.CompletionOptions{DisableDefaultCmd: true},

		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.format != "text" && c.format != "json" {
				return invalid("--output: %q is neither text nor json", c.format)
			}
			c.began = true
			return nil
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		text, _, _ := strings.Cut(err.Error(), ": strconv.")
		return invalid("%s; %s --help shows what there is", text, cmd.CommandPath())
	})
	p := root.PersistentFlags()
	p.StringVar(&c.state, "state", os.Getenv("FETTLE_STATE"), "state directory of the daemon ($FETTLE_STATE)")
	p.StringVar(&c.socket, "api", os.Getenv("FETTLE_API"), "socket of the daemon's API ($FETTLE_API)")
	p.StringVarP(&c.format, "output", "o", "text", "text or json")
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "see", Title: "See:"},
		&cobra.Group{ID: "act", Title: "Act:"},
		&cobra.Group{ID: "file", Title: "Pool files:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("run", c.runCommand(), c.upCommand(), c.watchCommand(), c.downCommand(), c.demoCommand())
	add("see", c.psCommand(), c.explainCommand(), c.logCommand(), c.logsCommand(), c.planCommand(),
		c.recordCommand(), c.replayCommand(), c.scoreCommand(), c.doctorCommand())
	add("act", c.scaleCommand(), c.restartCommand(), c.pauseCommand(), c.resumeCommand(), c.resetCommand(), c.evictCommand(),
		c.adjustCommand(), c.acceptCommand(), c.forgetCommand())
	add("file", c.initCommand(), c.validateCommand(), c.schemaCommand())
	root.AddCommand(c.versionCommand(), completionCommand(), exitCodesTopic())
	root.SetHelpCommand(helpCommand())
	root.AddCommand(c.internalCommands()...)
	return root
}

// base is where state lives unless said otherwise.
func base() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "fettle"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/fettle", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("state directory: %w; name one with --state DIR or FETTLE_STATE", err)
	}
	return filepath.Join(home, ".local", "state", "fettle"), nil
}

// stateDir is --state, or what name says below the base.
func (c *cli) stateDir(name ...string) (string, error) {
	dir := c.state
	if dir == "" {
		b, err := base()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(append([]string{b}, name...)...)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state directory %s: %w", dir, err)
	}
	return abs, nil
}

// invalid is an error about what the user gave.
func invalid(format string, a ...any) error { return &inputError{fmt.Sprintf(format, a...)} }

type inputError struct{ text string }

func (e *inputError) Error() string { return e.text }
func (e *inputError) Unwrap() error { return fettle.ErrInvalid }

// exactly asks for named arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return invalid("%s: %s is missing; usage: %s", cmd.Name(), names[len(args)], cmd.UseLine())
		}
		if len(args) > len(names) {
			return invalid("%s: %q is one argument too many; usage: %s", cmd.Name(), args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// atMost asks for no more arguments than those named.
func atMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return invalid("%s: %q is one argument too many; usage: %s", cmd.Name(), args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

func exitCodesTopic() *cobra.Command {
	var long strings.Builder
	long.WriteString("The exit code says how a command ended, so that scripts need not read its text:\n\n  0  it worked\n  1  it failed\n")
	seen := map[int]bool{0: true, 1: true}
	for _, k := range api.Kinds {
		if !seen[k.Exit] {
			seen[k.Exit] = true
			fmt.Fprintf(&long, "  %d  %s\n", k.Exit, k.Text)
		}
	}
	long.WriteString(`
With -o json an error on stderr names its kind too: {"error": {"kind": "not-found", "message": "..."}}.

Examples:
  fettle up shop.yaml --detach; test $? -eq 8 && fettle ps
  fettle evict web-3; test $? -eq 5 && echo "not now: the brakes hold"
  fettle ps >/dev/null; test $? -eq 3 && fettle up --detach`)
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: long.String()}
}
