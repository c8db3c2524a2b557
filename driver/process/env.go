package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/hook"
)

// passed are the variables of the daemon's environment that every instance gets.
var passed = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}

// variables are what an instance is told about itself.
func variables(ref ft.Ref, w ft.Work, port int, socket, data string) map[string]string {
	v := map[string]string{
		"PORT":              strconv.Itoa(port),
		"FETTLE_SOCKET":     socket,
		"FETTLE_DATA":       data,
		"FETTLE_INSTANCE":   string(ref.ID),
		"FETTLE_GENERATION": strconv.FormatUint(uint64(ref.Generation), 10),
		"FETTLE_POOL":       string(ref.ID.Pool()),
	}
	if w.Specialization != "" {
		v["FETTLE_SPECIALIZATION"] = w.Specialization
	}
	if w.Key != "" {
		v["FETTLE_KEY"] = w.Key
	}
	return v
}

// environment is all that the instance gets, sorted: what is passed from the daemon, the image's and the
// specialization's own with the instance's variables replaced in their values, and those variables, which win.
func environment(p *ft.Pool, w ft.Work, as *account, vars map[string]string) []string {
	env := map[string]string{}
	for _, name := range slices.Concat(passed, p.Image.Pass) {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	if as != nil && as.Home != "" {
		env["HOME"] = as.Home
	}
	own := []map[string]string{p.Image.Env}
	if s := p.Specialization(w.Specialization); s != nil {
		own = append(own, s.Env)
	}
	for _, m := range own {
		for k, v := range m {
			env[k] = hook.Expand(v, vars)
		}
	}
	maps.Copy(env, vars)
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// value looks a variable up in an environment list.
func value(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// lookCommand finds the program as execvp(3) would, by the instance's own PATH and from its working directory.
func lookCommand(name, path, cwd string) (string, error) {
	if strings.ContainsRune(name, '/') {
		if !filepath.IsAbs(name) {
			name = filepath.Join(cwd, name)
		}
		if err := executable(name); err != nil {
			return "", fmt.Errorf("command %s: %w", name, err)
		}
		return name, nil
	}
	var found error
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cwd, dir)
		}
		file := filepath.Join(dir, name)
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if !missing(err) && found == nil {
			found = fmt.Errorf("command %s: %w", file, err)
		}
	}
	if found != nil {
		return "", found
	}
	return "", fmt.Errorf("command %q: %w in PATH %s", name, errNoCommand, path)
}

var (
	errNoCommand = errors.New("not found")
	errNoProgram = errors.New("is not executable")
)

func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case missing(err):
		return fmt.Errorf("does not exist: %w", err)
	case err != nil:
		return err
	case st.IsDir() || st.Mode()&0o111 == 0:
		return errNoProgram
	}
	return nil
}

// reach checks that a user can get through to a directory, and names the one that is closed.
func reach(dir string, as *account) error {
	if as == nil {
		return nil
	}
	for d := dir; ; d = filepath.Dir(d) {
		var st unix.Stat_t
		if err := unix.Stat(d, &st); err != nil {
			return &os.PathError{Op: "stat", Path: d, Err: err}
		}
		open := st.Mode&0o001 != 0
		switch {
		case int(st.Uid) == as.UID:
			open = st.Mode&0o100 != 0
		case slices.Contains(append(as.Groups, as.GID), int(st.Gid)):
			open = st.Mode&0o010 != 0
		}
		if !open {
			return fmt.Errorf("user %s cannot enter %s (mode %04o): open it with chmod o+x or choose another state directory", as.Name, d, st.Mode&0o7777)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// lookUser finds whom to run as; nil to stay who the daemon is. Only root can change the user.
func lookUser(name string) (*account, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		byID, e := user.LookupId(name)
		if e != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		u = byID
	}
	a := &account{Name: u.Username, Home: u.HomeDir}
	if a.UID, err = strconv.Atoi(u.Uid); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	if a.GID, err = strconv.Atoi(u.Gid); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	if a.UID == os.Getuid() && a.GID == os.Getgid() {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("user %q: only root can start processes as somebody else: %w", name, ft.ErrUnavailable)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", name, err)
	}
	for _, s := range ids {
		g, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("groups of user %q: %w", name, err)
		}
		a.Groups = append(a.Groups, g)
	}
	return a, nil
}
