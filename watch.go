package fettle

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Watch finds servers that run already: exactly one of its fields is given. Such a pool is in mode observe. Nothing of
// the servers is changed: they get no signal, no limit, no priority, and no request but for metrics where those are
// asked for.
type Watch struct {
	// PIDs are processes, each one instance together with all that descends from it.
	PIDs []int `json:"pids,omitempty"`
	// Unit is a pattern of systemd units, such as gunicorn@*.service; each is one instance. Without an ending, services are meant.
	Unit string `json:"unit,omitempty"`
	// Cgroup is a pattern of control group paths below their mount, such as /kubepods/*/pod*; each that has processes is one instance. A * stands for no slash.
	Cgroup string `json:"cgroup,omitempty"`
	// Match is a regular expression for command lines, with a space between the arguments; each topmost process that matches is one instance, together with all that descends from it.
	Match string `json:"match,omitempty"`
}

// MostWatched is how many instances a watched pool may have.
const MostWatched = 256

// String is the selection as a flag of the command line.
func (w *Watch) String() string {
	switch {
	case w == nil:
		return "nothing"
	case w.Unit != "":
		return "--unit " + w.Unit
	case w.Cgroup != "":
		return "--cgroup " + w.Cgroup
	case w.Match != "":
		return "--match " + w.Match
	}
	return "PID " + strings.Trim(fmt.Sprint(w.PIDs), "[]")
}

// validate checks the selection itself.
func (w *Watch) validate() []FieldError {
	var errs []FieldError
	bad := func(wrong bool, path, format string, a ...any) {
		if wrong {
			errs = append(errs, FieldError{path, fmt.Sprintf(format, a...)})
		}
	}
	ways := 0
	for _, is := range []bool{len(w.PIDs) > 0, w.Unit != "", w.Cgroup != "", w.Match != ""} {
		if is {
			ways++
		}
	}
	bad(ways != 1, "watch", "needs exactly one of pids, unit, cgroup, match")
	for i, pid := range w.PIDs {
		bad(pid < 1, fmt.Sprintf("watch.pids[%d]", i), "%d is no process number", pid)
		bad(slices.Contains(w.PIDs[:i], pid), fmt.Sprintf("watch.pids[%d]", i), "%d stands twice", pid)
	}
	bad(len(w.PIDs) > MostWatched, "watch.pids", "%d of them, at most %d", len(w.PIDs), MostWatched)
	for _, g := range []struct{ name, pattern string }{{"watch.unit", w.Unit}, {"watch.cgroup", w.Cgroup}} {
		_, err := path.Match(g.pattern, "")
		bad(err != nil, g.name, "%q is no pattern: * stands for any text, ? for one character, [a-z] for one of several", g.pattern)
	}
	bad(strings.Contains(w.Unit, "/"), "watch.unit", "%q is no unit's name: it has no slash; watch.cgroup takes paths", w.Unit)
	_, err := regexp.Compile(w.Match)
	bad(err != nil, "watch.match", "%q is no regular expression: %s", w.Match, regexpError(err))
	return errs
}

func regexpError(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

// watched checks that a pool of servers that Fettle does not run is asked for nothing that would touch them.
func (p *Pool) watched() []FieldError {
	errs := p.Watch.validate()
	bad := func(wrong bool, path, msg string) {
		if wrong {
			errs = append(errs, FieldError{path, msg})
		}
	}
	const stays = "does not go with watch: these servers are only looked at"
	im := p.Image
	bad(p.Mode != Observe, "mode", fmt.Sprintf("%s does not go with watch: servers that Fettle did not start are only looked at; leave it out or write observe", p.Mode))
	bad(im.Driver != "" || len(im.Command) > 0 || im.Dir != "" || im.WorkDir != "" || len(im.Env) > 0 || len(im.Pass) > 0 || im.User != "" || im.Concurrency != 0 || im.Hooks != (Hooks{}), "image",
		"does not go with watch: these servers run already, Fettle makes none of them")
	bad(p.Listen != "", "listen", "does not go with watch: requests reach these servers as they always did, not through Fettle")
	bad(p.Route != (Route{}), "route", "does not go with watch: requests reach these servers as they always did, not through Fettle")
	bad(p.Size != (Sizing{}), "size", "does not go with watch: there are as many instances as are found")
	bad(len(p.Specializations) > 0 || p.Initial != "", "specializations", stays)
	bad(p.Probes != (Probes{}), "probes", stays)
	bad(p.Limits.Restarts != 0, "limits.restarts", stays)
	bad(p.Limits.Silence != 0, "limits.silence", stays)
	bad(p.Budget != (Budget{}), "budget", stays)
	return errs
}

// watchDefaults are those of a watched pool: what would touch the servers is off unless asked for.
func (p *Pool) watchDefaults() {
	p.Serve = None
	if p.Telemetry.WorkingSet.Collect == Auto {
		p.Telemetry.WorkingSet.Collect = Off // it clears the referenced bits of the servers' pages
	}
}
