package config

import (
	_ "embed"
	"strings"
)

//go:embed init.yaml
var starter string

// starterCommand is what stands for the command in init.yaml, which so is a pool file itself.
const starterCommand = `["python3", "-m", "http.server", "$PORT"]`

// Init is the file that `fettle init` writes: one pool that only observes, and the important options as comments, with
// their defaults and what each is for. The command is put in if it is given.
func Init(command []string) []byte {
	if len(command) == 0 {
		return []byte(starter)
	}
	list := make([]any, len(command))
	for i, word := range command {
		list[i] = word
	}
	flow, _ := flowOf(list)
	return []byte(strings.Replace(starter, starterCommand, flow, 1))
}
