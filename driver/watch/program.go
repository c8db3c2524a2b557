package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/fettle-dev/fettle/internal/procfs"
)

// program is what a process runs. Servers of one program are peers.
type program struct {
	name string // for people: "redis-server", "python3 -m http.server", "node shop.js"
	id   string // identifies executable and script
}

// Program is what a process runs, for people, and what identifies it: processes of one program have one identity,
// whatever their other arguments. Both are empty where there is no such process.
func Program(pid int) (name, id string) {
	p := programOf(pid)
	if p.name == "" {
		return "", ""
	}
	return p.name, p.id
}

// interpreters run a script or module that says more than they do.
var interpreters = regexp.MustCompile(`^(python|pypy|node|nodejs|ruby|perl|php|java|deno|bun|bash|dash|zsh|sh|Rscript)[0-9.]*$`)

// shells run start scripts, which mostly become the server that they start.
var shells = regexp.MustCompile(`^(ba|da|k|z|a)?sh$|^env$`)

const (
	// youngest is the age below which a process may not be what it will be: what forked it is copied in it.
	youngest = time.Second
	// settles is the age below which a start script may yet become a server.
	settles = 10 * time.Second
)

// unsettled tells whether a process began so recently that it may become another program, or the child of one.
func unsettled(s procfs.Stat) bool {
	age := sinceBoot() - time.Duration(s.Start)*(time.Second/clockTick)
	if age >= settles {
		return false
	}
	if age < youngest {
		return true
	}
	name, _, _ := strings.Cut(nameOf(commandLine(s.PID)), " ")
	return shells.MatchString(name)
}

// programOf reads what may be read; a program that cannot be told at all has the process's short name.
func programOf(pid int) program {
	args := commandLine(pid)
	exe, _ := os.Readlink(procfs.Path(pid, "exe")) // of other users' processes only root may read it
	exe = strings.TrimSuffix(exe, " (deleted)")
	p := program{name: nameOf(args)}
	if p.name == "" {
		comm, _ := os.ReadFile(procfs.Path(pid, "comm"))
		p.name = strings.TrimSpace(string(comm))
	}
	h := sha256.Sum256([]byte(exe + "\x00" + p.name))
	p.id = hex.EncodeToString(h[:8])
	return p
}

// nameOf is the program of a command line: that of its first argument, with the script or module of an interpreter. A
// program that wrote its own title ("nginx: master process ...") has one argument.
func nameOf(args []string) string {
	if len(args) == 0 || args[0] == "" {
		return ""
	}
	first, _, titled := strings.Cut(args[0], " ")
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(first), "-"), ":")
	if titled || !interpreters.MatchString(name) {
		return name
	}
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case (a == "-m" || a == "-jar") && i+1 < len(args):
			return name + " " + a + " " + filepath.Base(args[i+1])
		case a == "-c" || a == "-e" || a == "--eval":
			return name
		case a == "-cp" || a == "-classpath" || a == "--class-path" || a == "-W" || a == "-X" || a == "-r" || a == "--require":
			i++ // its value
		case a != "" && !strings.HasPrefix(a, "-"):
			return name + " " + filepath.Base(a)
		}
	}
	return name
}
