package config

import (
	_ "embed"
	"strings"
)

//go:embed init.yaml
var starter string

// starterCommand is what stands for the command in init.yaml, which so is a pool file itself.
const starterCommand = `["python3", "-m", "http.server", "$PORT"]`

// SchemaFile is the name under which the schema is found from the file that Init makes.
const SchemaFile = "fettle.schema.json"

// Init is the file that `fettle init` writes: one pool that only observes, and the important options as comments, with
// their defaults and what each is for. The command is put in if it is given. With schema, the file's first line tells editors
// that the schema is in [SchemaFile] beside it.
func Init(command []string, schema bool) []byte {
	text := starter
	if !schema {
		_, text, _ = strings.Cut(text, "#\n") // the line, and the blank one below it
	}
	if len(command) == 0 {
		return []byte(text)
	}
	list := make([]any, len(command))
	for i, word := range command {
		list[i] = word
	}
	flow, _ := flowOf(list)
	return []byte(strings.Replace(text, starterCommand, flow, 1))
}
