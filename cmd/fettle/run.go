package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
)

// runFlags are the flags of fettle run: a pool without a file.
type runFlags struct {
	n, max      int
	name        string
	listen      string
	mode, serve string
	key         string
	memory      string
	dir         string
	workDir     string
	env, pass   []string
	user        string
	probe       string
	softReset   string
	concurrency int
	accessLog   string
	serving     servingFlags
}

func (c *cli) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run N copies of a server and keep them in fettle",
		Long: `Starts N copies of any server that listens on $PORT (or on the unix socket $FETTLE_SOCKET) and serves them on one
address. No file is needed. $PORT, $FETTLE_SOCKET, $FETTLE_DATA and $FETTLE_INSTANCE are replaced in the arguments
(quote them, so that your shell leaves them alone) and are set in the environment, which is otherwise your own.

The -- must be there: flags of fettle run stand before it, the command with its own flags after it.

Ctrl-C finishes the requests in flight and stops everything; pressed twice it does not wait.`,
		Example: `  fettle run -n 4 --listen :8080 -- node server.js
  fettle run -n 3 -- python3 -m http.server '$PORT'
  fettle run -n 4 --key header:X-Tenant --probe /healthz --memory-limit 512MiB -- ./server
  fettle run -n 2 --serve none -- python3 worker.py`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := dashed(cmd, args); err != nil {
				return err
			}
			p, err := f.pool(args)
			if err != nil {
				return err
			}
			dir, err := c.stateDir("run", string(p.Name))
			if err != nil {
				return err
			}
			return c.foreground(cmd.Context(), dir, []fettle.Pool{p}, &f.serving)
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.IntVarP(&f.n, "instances", "n", 1, "how many instances run always")
	fl.IntVar(&f.max, "max", 0, "how many may run, replacements included (default one more than -n)")
	fl.StringVar(&f.name, "name", "", "name of the pool (default that of the command)")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address on which the pool is served")
	fl.StringVar(&f.mode, "mode", "heal", "what Fettle may do by itself: observe, tune or heal")
	fl.StringVar(&f.serve, "serve", "http", "what instances serve: http, or none for workers that take no requests")
	fl.StringVar(&f.key, "key", "", "keeps requests with the same key on the same instance: header:NAME, path:N, query:NAME or host")
	fl.StringVar(&f.memory, "memory-limit", "", "memory that an instance may have resident, such as 512MiB")
	fl.StringVar(&f.dir, "dir", "", "directory that is copied into each instance's private data directory ($FETTLE_DATA)")
	fl.StringVar(&f.workDir, "workdir", "", "working directory of the instances (default the private data directory with --dir, else this one)")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "NAME=VALUE to add to the environment; may be repeated")
	fl.StringSliceVar(&f.pass, "pass", nil, "pass only these variables of the environment on (default all)")
	fl.StringVar(&f.user, "user", "", "user to run as, where Fettle may change it")
	fl.StringVar(&f.probe, "probe", "", "path to GET that says whether an instance is well, such as /healthz")
	fl.StringVar(&f.softReset, "soft-reset", "", "how a soft reset is asked for: a path to POST to, or a signal such as HUP")
	fl.IntVar(&f.concurrency, "concurrency", 0, "requests that an instance takes at once; 0 is unlimited")
	fl.StringVar(&f.accessLog, "access-log", "", "file for one line a request; - is the output")
	f.serving.add(fl)
	return cmd
}

// dashed refuses a command that no -- stands before: its flags and Fettle's would be taken for each other.
func dashed(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || cmd.ArgsLenAtDash() == 0 {
		return nil
	}
	return invalid("%s: -- is missing before the command: %s [flags] -- %s; flags of fettle %s stand before the --, those of the command after it",
		cmd.Name(), cmd.CommandPath(), strings.Join(args, " "), cmd.Name())
}

// pool makes the pool that the flags describe, checked.
func (f *runFlags) pool(command []string) (fettle.Pool, error) {
	var p fettle.Pool
	if len(command) == 0 {
		return p, invalid("run: the command is missing; usage: fettle run [flags] -- COMMAND [ARG...]")
	}
	if err := f.fill(&p, command); err != nil {
		return p, err
	}
	p.Defaults()
	if errs := p.Validate(); len(errs) > 0 {
		return p, invalid("run: %s", strings.Join(flagNames(errs), "; "))
	}
	here, err := os.Getwd()
	if err != nil {
		return p, invalid("run: the current directory: %s", err)
	}
	absolute(&p, here)
	for flag, dir := range map[string]string{"--dir": p.Image.Dir, "--workdir": p.Image.WorkDir} {
		if st, err := os.Stat(dir); dir != "" && (err != nil || !st.IsDir()) {
			return p, invalid("run: %s: %s is no directory", flag, dir)
		}
	}
	return p, lookUp(&p)
}

func (f *runFlags) fill(p *fettle.Pool, command []string) (err error) {
	p.Name = fettle.PoolName(f.name)
	if f.name == "" {
		p.Name = nameOf(command[0])
	}
	if err := p.Mode.UnmarshalText([]byte(f.mode)); err != nil {
		return invalid("run: --mode: %s", err)
	}
	if err := p.Serve.UnmarshalText([]byte(f.serve)); err != nil {
		return invalid("run: --serve: %s", err)
	}
	if p.Serve == fettle.HTTP {
		p.Listen = f.listen
	}
	if f.n < 1 {
		return invalid("run: -n: %d is not at least 1", f.n)
	}
	p.Size = fettle.Sizing{Min: f.n, Max: f.max}
	if p.Route.Key, err = parseKey(f.key); err != nil {
		return err
	}
	p.Route.AccessLog = f.accessLog
	if f.memory != "" {
		if err := p.Limits.Memory.UnmarshalText([]byte(f.memory)); err != nil {
			return invalid("run: --memory-limit: %s", err)
		}
	}
	p.Image = fettle.Image{
		Command: command, Dir: f.dir, WorkDir: f.workDir, User: f.user, Concurrency: f.concurrency,
		Pass: f.pass, Hooks: fettle.Hooks{SoftReset: parseHook(f.softReset)},
	}
	if f.pass == nil {
		p.Image.Pass = environment()
	}
	if f.probe != "" {
		p.Probes = fettle.Probes{
			Startup: &fettle.Probe{HTTP: f.probe}, Readiness: &fettle.Probe{HTTP: f.probe}, Liveness: &fettle.Probe{HTTP: f.probe},
		}
	}
	p.Image.Env, err = parseEnv(f.env)
	return err
}

// flagNames says what is wrong in terms of the command line where there is a flag for it.
func flagNames(errs []fettle.FieldError) []string {
	flags := map[string]string{
		"name": "--name", "listen": "--listen", "size.min": "-n", "size.max": "--max", "limits.memory": "--memory-limit",
		"route.key": "--key", "route.key.path": "--key", "image.concurrency": "--concurrency",
		"probes.startup.http": "--probe", "image.hooks.softReset.http.path": "--soft-reset", "image.hooks.softReset": "--soft-reset",
		"image.hooks.softReset.signal": "--soft-reset", "image.user": "--user",
	}
	var out []string
	for _, e := range errs {
		if strings.HasPrefix(e.Path, "probes.") && e.Path != "probes.startup.http" && strings.HasSuffix(e.Path, ".http") {
			continue // said of the startup probe already: --probe is all three
		}
		name := e.Path
		if f, ok := flags[e.Path]; ok {
			name = f
		}
		out = append(out, name+" "+strings.ReplaceAll(e.Msg, "size.min", "-n"))
	}
	return out
}

// nameOf makes a pool name of a command: "server" of ./bin/Server.py.
func nameOf(command string) fettle.PoolName {
	b := strings.ToLower(filepath.Base(command))
	b = strings.TrimSuffix(b, filepath.Ext(b))
	b = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, b)
	b = strings.TrimLeft(b, "-0123456789")
	if b == "" {
		return "pool"
	}
	return fettle.PoolName(b[:min(len(b), 40)])
}

func parseKey(s string) (*fettle.RouteKey, error) {
	kind, arg, _ := strings.Cut(s, ":")
	switch {
	case s == "":
		return nil, nil
	case s == "host":
		return &fettle.RouteKey{Host: true}, nil
	case kind == "header" && arg != "":
		return &fettle.RouteKey{Header: arg}, nil
	case kind == "query" && arg != "":
		return &fettle.RouteKey{Query: arg}, nil
	case kind == "path":
		if n, err := strconv.Atoi(arg); err == nil && n > 0 {
			return &fettle.RouteKey{Path: n}, nil
		}
	}
	return nil, invalid("run: --key: %q is none of header:NAME, path:N (counted from 1), query:NAME, host", s)
}

func parseHook(s string) *fettle.Hook {
	switch {
	case s == "":
		return nil
	case strings.HasPrefix(s, "/"):
		return &fettle.Hook{HTTP: &fettle.HTTPHook{Path: s}}
	default:
		return &fettle.Hook{Signal: strings.TrimPrefix(strings.ToUpper(s), "SIG")}
	}
}

func parseEnv(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	env := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, invalid("run: --env: %q is not NAME=VALUE", kv)
		}
		env[k] = v
	}
	return env, nil
}

// environment is the names of all variables that instances may inherit: not Fettle's own, nor what belongs to a shell.
func environment() []string {
	var names []string
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		if k == "" || strings.HasPrefix(k, "FETTLE_") || slices.Contains([]string{"PORT", "_", "SHLVL", "OLDPWD", "PWD", "NOTIFY_SOCKET"}, k) {
			continue
		}
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// absolute makes all paths of a pool independent of the current directory; they are relative to dir.
func absolute(p *fettle.Pool, dir string) {
	if p.Watch != nil {
		return // it starts nothing
	}
	abs := func(s *string) {
		if *s != "" && !filepath.IsAbs(*s) {
			*s = filepath.Join(dir, *s)
		}
	}
	if p.Image.WorkDir == "" && p.Image.Dir == "" {
		p.Image.WorkDir = dir
	}
	abs(&p.Image.Dir)
	abs(&p.Image.WorkDir)
	if p.Route.AccessLog != "-" {
		abs(&p.Route.AccessLog)
	}
	for i := range p.Specializations {
		files := p.Specializations[i].Files
		for to, from := range files {
			abs(&from)
			files[to] = from
		}
	}
}

// lookUp says at once that a command does not exist, rather than by starts that fail.
func lookUp(p *fettle.Pool) error {
	name := p.Image.Command[0]
	if strings.Contains(name, "$") {
		return nil
	}
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Image.WorkDir, name)
		}
		if p.Image.WorkDir == "" {
			return nil // relative to a data directory that does not exist yet
		}
	}
	if _, err := exec.LookPath(name); err != nil {
		return invalid("run: %s: %s", p.Image.Command[0], lookUpError(err))
	}
	return nil
}

func lookUpError(err error) string {
	if e, ok := err.(*exec.Error); ok { //nolint:errorlint // LookPath documents this type
		err = e.Err
	}
	text := strings.TrimPrefix(err.Error(), "exec: ")
	return strings.Replace(text, "executable file not found in $PATH", "no such command in $PATH", 1)
}
