// Command mustrun fails when a test that must really run was skipped or did not run, and names it:
//
//	mustrun LIST WHERE=OUTPUT...
//
// LIST (test/collectors.txt) has a line "WHERE PACKAGE TEST what it shows" for each; # begins a comment. OUTPUT is a
// file with what `go test -v` printed there, or something that prints alike. A test counts as run when it passed and
// none of its subtests was skipped.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mustrun:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("it takes LIST and WHERE=OUTPUT for each output")
	}
	list, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer list.Close()
	must, err := read(list)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	seen := map[string]results{}
	for _, a := range args[1:] {
		where, path, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("%q is not WHERE=OUTPUT", a)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		seen[where], err = gather(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	var errs []error
	for _, m := range must {
		if err := m.check(seen); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d tests that must run did not:\n%w", len(errs), len(must), errors.Join(errs...))
	}
	fmt.Fprintf(out, "all %d tests that must run did\n", len(must))
	return nil
}

// required is one line of the list.
type required struct{ where, pkg, test, shows string }

func read(r io.Reader) ([]required, error) {
	var list []required
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		line, _, _ := strings.Cut(in.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 4 {
			return nil, fmt.Errorf("line %d: %q is not WHERE PACKAGE TEST and what it shows", n, line)
		}
		m := required{f[0], f[1], f[2], strings.Join(f[3:], " ")}
		if slices.ContainsFunc(list, func(o required) bool { return o.where == m.where && o.pkg == m.pkg && o.test == m.test }) {
			return nil, fmt.Errorf("line %d: %s is there twice", n, m.test)
		}
		list = append(list, m)
	}
	return list, in.Err()
}

func (m required) check(seen map[string]results) error {
	name := fmt.Sprintf("%s of %s (%s: %s)", m.test, m.pkg, m.where, m.shows)
	r, ok := seen[m.where]
	if !ok {
		return fmt.Errorf("%s: no output of %s was given", name, m.where)
	}
	tests, ok := r[m.pkg]
	if !ok {
		return fmt.Errorf("%s: its package was not tested", name)
	}
	switch t := tests[m.test]; {
	case t.word == "":
		return fmt.Errorf("%s: did not run", name)
	case t.word == "SKIP":
		return fmt.Errorf("%s: was skipped: %s", name, t.why)
	case t.word != "PASS":
		return fmt.Errorf("%s: %s", name, t.word)
	}
	for sub, t := range tests {
		if t.word == "SKIP" && strings.HasPrefix(sub, m.test+"/") {
			return fmt.Errorf("%s: its part %s was skipped: %s", name, sub, t.why)
		}
	}
	return nil
}

// results are by package, as its path ends, and by test.
type results map[string]map[string]result

type result struct{ word, why string }

var (
	verdict = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
	running = regexp.MustCompile(`^=== (?:RUN|CONT|NAME)\s+(\S+)`)
	reason  = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)
	closing = regexp.MustCompile(`^(?:ok|FAIL)\s+(\S+)\s`)
)

// gather reads the output of go test -v. What a test says stands before its verdict, or, for a subtest and without -v, after it.
func gather(r io.Reader) (results, error) {
	all := results{}
	tests := map[string]result{}
	said, current, last := map[string]string{}, "", ""
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		line := in.Text()
		if m := running.FindStringSubmatch(line); m != nil {
			current, last = m[1], ""
			continue
		}
		if m := verdict.FindStringSubmatch(line); m != nil {
			tests[m[2]] = result{m[1], said[m[2]]}
			last = m[2]
			continue
		}
		if m := reason.FindStringSubmatch(line); m != nil {
			if last != "" {
				tests[last] = result{tests[last].word, m[1]}
				continue
			}
			said[current] = m[1]
			continue
		}
		if m := closing.FindStringSubmatch(line); m != nil {
			all[m[1]] = tests
			tests, said, current, last = map[string]result{}, map[string]string{}, "", ""
		}
	}
	return all, in.Err()
}
