package main

import (
	"io"
	"strings"
	"testing"
)

// TestHelp checks that the help of every command says more than its name, with an example, in lines that a terminal shows.
func TestHelp(t *testing.T) {
	c := &cli{out: io.Discard, err: io.Discard}
	for _, cmd := range c.root().Commands() {
		if cmd.Hidden {
			continue
		}
		if cmd.Long == "" {
			t.Errorf("%s has no long help", cmd.Name())
		}
		if cmd.Example == "" && !strings.Contains(cmd.Long, "Examples:") {
			t.Errorf("%s has no example", cmd.Name())
		}
		for l := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if len(strings.TrimRight(l, "\n")) > 120 {
				t.Errorf("%s: too long a line: %s", cmd.Name(), l)
			}
		}
	}
}
