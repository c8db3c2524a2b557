package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/config"
)

// slips is how many letters of a name may be wrong for it to be suggested: a third, so that none is another word.
func slips(name string) int { return max(1, len(name)/3) }

// didYouMean suggests the nearest of the names, "; did you mean explain?", or nothing where none is near.
func didYouMean(name string, names []string) string {
	if near := config.Nearest(name, names, slips(name)); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// unknownCommand is the error about a command that cmd does not have.
func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			names = append(names, sub.Name())
		}
	}
	return invalid("there is no command %q%s; %s --help shows all", name, didYouMean(name, names), cmd.CommandPath())
}

// unknownName is the error about a name that is none of what is wanted, such as "neither a pool nor an instance". It
// says what there is.
func unknownName(ps []api.PoolStatus, name, wanted string) error {
	var names, pools, there []string
	for i := range ps {
		p := &ps[i]
		pools = append(pools, string(p.Name))
		var ids []string
		for j := range p.Instances {
			ids = append(ids, string(p.Instances[j].ID))
		}
		names = append(names, ids...)
		if len(ids) == 0 {
			ids = []string{"no instance"}
		}
		there = append(there, fmt.Sprintf("pool %s with %s", p.Name, strings.Join(ids, ", ")))
	}
	if len(there) == 0 {
		there = []string{"no pool"}
	}
	names = append(names, pools...)
	near := ""
	if !slices.Contains(names, name) {
		near = didYouMean(name, names)
	}
	return fmt.Errorf("%q: %w: it is %s%s; there is %s", name, fettle.ErrNotFound, wanted, near, strings.Join(there, "; "))
}

// poolNamed finds a pool; its error says what there is.
func poolNamed(ps []api.PoolStatus, name string) (*api.PoolStatus, error) {
	for i := range ps {
		if string(ps[i].Name) == name {
			return &ps[i], nil
		}
	}
	if p, _, err := instanceNamed(ps, name); err == nil {
		return nil, unknownName(ps, name, fmt.Sprintf("an instance, not a pool: its pool is %s", p.Name))
	}
	return nil, unknownName(ps, name, "no pool")
}

// instanceNamed finds an instance and its pool; its error says what there is.
func instanceNamed(ps []api.PoolStatus, name string) (*api.PoolStatus, *api.InstanceStatus, error) {
	for i := range ps {
		for j := range ps[i].Instances {
			if string(ps[i].Instances[j].ID) == name {
				return &ps[i], &ps[i].Instances[j], nil
			}
		}
	}
	for i := range ps {
		if string(ps[i].Name) == name {
			return nil, nil, unknownName(ps, name, "a pool, not an instance")
		}
	}
	return nil, nil, unknownName(ps, name, "no instance")
}

// helpCommand is fettle help: that of a command, or of a topic.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Long:  "Shows what a command does, its flags and examples, as COMMAND --help does; also the help topics.",
		Example: `  fettle help run
  fettle help exit-codes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			if err != nil || about == nil {
				return unknownCommand(cmd.Root(), strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// completionCommand prints the script that teaches a shell the command line.
func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the script that completes fettle's command line in a shell",
		Long: `Prints a script for a shell that completes commands and flags with the Tab key. The first example is for the running
bash only, the others are for every new shell. For bash the package bash-completion must be there.`,
		Example: `  source <(fettle completion bash)
  fettle completion bash > ~/.local/share/bash-completion/completions/fettle
  fettle completion zsh > "${fpath[1]}/_fettle"
  fettle completion fish > ~/.config/fish/completions/fettle.fish
  fettle completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args:      exactly("bash, zsh, fish or powershell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return invalid("completion: %q is no shell that is known%s; one of %s", args[0], didYouMean(args[0], shells), strings.Join(shells, ", "))
		},
	}
}
