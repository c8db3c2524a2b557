package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/driver/watch"
)

// watchFlags are the flags of fettle watch: a pool of servers that run already.
type watchFlags struct {
	watch      fettle.Watch
	name       string
	interval   time.Duration
	learn      time.Duration
	memory     string
	workingSet bool
	network    string
	record     string
	scrape     string
	series     []string
	serving    servingFlags
}

func (c *cli) watchCommand() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "watch [flags] PID... | --unit GLOB | --cgroup GLOB | --match REGEX",
		Short: "Judge and explain servers that run already, and touch nothing",
		Long: `Takes servers that run already, without a restart, a router or a file: learns how each of them behaves, says when
one drifts, and explains it. It changes nothing on the machine: it sends no signal and no request, writes to no
control group, and writes no file outside of its state directory. When it ends, everything is as it was.

One of these says which servers; each becomes an instance:
  PID...          processes, each with all that descends from it
  --unit GLOB     systemd units, such as 'gunicorn@*.service' (found by their control groups, without asking systemd)
  --cgroup GLOB   control groups by their path below the mount, such as '/kubepods/*/pod*'
  --match REGEX   processes whose command line matches; of those that descend from each other the topmost

New ones that match are taken up while it runs, and one that comes back after it ended is the next generation of the
same instance. Instances of one program are peers, and are compared with each other.

What is learnt is kept in a state directory of its own for each selection: the next watch of the same selection begins
with that baseline. Other commands work meanwhile from another terminal: ps, explain, log, plan (what would be done if
Fettle ran these servers), accept, forget.

As another user than that of the servers, and not as root, some things cannot be read: fettle explain says which,
and why.`,
		Example: `  fettle watch 4711
  fettle watch --match gunicorn
  fettle watch --unit 'worker@*.service'
  fettle watch --cgroup '/docker/*' --name containers
  fettle watch 4711 --record server.rec
  fettle watch --match 'node server.js' --scrape /metrics --series http_requests_total=load
  fettle watch $(pidof redis-server) -o json | jq 'select(.kind == "judged")'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.pool(args)
			if err != nil {
				return err
			}
			dir, err := c.stateDir("watch", string(p.Name)+"-"+selection(p.Watch))
			if err != nil {
				return err
			}
			return c.foregroundWatch(cmd.Context(), dir, p, &f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.watch.Unit, "unit", "", "pattern of systemd units; without an ending, services are meant")
	fl.StringVar(&f.watch.Cgroup, "cgroup", "", "pattern of control group paths; a * stands for no slash")
	fl.StringVar(&f.watch.Match, "match", "", "regular expression for command lines, with a space between the arguments")
	fl.StringVar(&f.name, "name", "", "name of the pool (default made from the selection)")
	fl.DurationVar(&f.interval, "interval", 0, "time between two looks (default 1s)")
	fl.DurationVar(&f.learn, "learn", 0, "how long a first baseline is learnt (default 120 intervals)")
	fl.StringVar(&f.memory, "memory-limit", "", "memory that an instance should stay below, such as 512MiB: it is foretold when one will not")
	fl.BoolVar(&f.workingSet, "working-set", false, "measure the working set too; that clears the referenced bits of the servers' pages, which costs them a little")
	fl.StringVar(&f.network, "network", "auto", "traffic and calls to others by eBPF programs, where this user may load them: auto, off, or on")
	fl.StringVar(&f.scrape, "scrape", "", "take the servers' own counters from this Prometheus endpoint: PATH, or PATH:PORT where it is not the port that they listen on")
	fl.StringArrayVar(&f.series, "series", nil, "with --scrape, a metric to take: NAME, or NAME=load where it tells the work that is asked for; may be repeated")
	fl.StringVar(&f.record, "record", "", "also write a recording to this file, for fettle replay")
	f.serving.addLog(fl)
	return cmd
}

// foregroundWatch runs a daemon that only watches, tells its story, and records where that is asked for.
func (c *cli) foregroundWatch(ctx context.Context, dir string, p fettle.Pool, f *watchFlags) error {
	o, err := c.options(dir, []fettle.Pool{p}, &f.serving)
	if err != nil {
		return err
	}
	s := newStory(c)
	defer s.close()
	o.Event = s.event
	record, recorded, err := c.recordBeside(s, p.Name, f)
	if err != nil {
		return err
	}
	o.Ready = func(cl *client.Client) {
		s.begin(ctx, cl)
		record(cl)
	}
	err = c.serve(ctx, o, false, func() {
		s.tell(time.Now(), "ending: the servers run on as they were; what was learnt is kept in %s", dir)
		recorded()
	})
	recorded()
	return err
}

// recordBeside gives what begins a recording of the pool, and what ends it and waits for that; both do nothing where none
// is asked for.
func (c *cli) recordBeside(s *story, pool fettle.PoolName, f *watchFlags) (begin func(*client.Client), end func(), err error) {
	if f.record == "" {
		return func(*client.Client) {}, func() {}, nil
	}
	if f.record == "-" {
		return nil, nil, invalid("watch: --record -: the output tells the story: name a file")
	}
	out, err := c.create("watch", f.record, false)
	if err != nil {
		return nil, nil, err
	}
	if out.output() {
		return nil, nil, invalid("watch: --record %s: the output tells the story: name a file", f.record)
	}
	ctx, cancel := context.WithCancel(context.Background())
	began, done := make(chan struct{}), make(chan struct{})
	begin = func(cl *client.Client) {
		close(began)
		defer close(done)
		t := newTape(c, f.record, out, newProgress(io.Discard))
		_, err := t.run(ctx, cl, pool, false)
		if err != nil {
			c.report(err)
			return
		}
		s.tell(time.Now(), "recorded %s, in %s; fettle replay %s replays it", t.holds(pool), f.record, f.record)
	}
	end = func() {
		cancel()
		select {
		case <-began:
			<-done
		default: // the daemon did not come up
			_ = out.Close() // nothing is in it
		}
	}
	return begin, sync.OnceFunc(end), nil
}

// pool makes the pool that the flags describe, checked.
func (f *watchFlags) pool(args []string) (fettle.Pool, error) {
	var p fettle.Pool
	w := f.watch
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return p, invalid("watch: %q is no process number; patterns go with --match, --unit or --cgroup", a)
		}
		w.PIDs = append(w.PIDs, pid)
	}
	if w.String() == (&fettle.Watch{}).String() {
		return p, invalid("watch: say which servers: PID..., --unit GLOB, --cgroup GLOB or --match REGEX; fettle watch --help has examples")
	}
	p.Watch = &w
	p.Name = fettle.PoolName(f.name)
	if f.name == "" {
		p.Name = watchName(&w)
	}
	p.Detect.Interval, p.Detect.Learn = fettle.Duration(f.interval), fettle.Duration(f.learn)
	if f.memory != "" {
		if err := p.Limits.Memory.UnmarshalText([]byte(f.memory)); err != nil {
			return p, invalid("watch: --memory-limit: %s", err)
		}
	}
	if f.workingSet {
		p.Telemetry.WorkingSet.Collect = fettle.On
	}
	if err := p.Telemetry.Network.UnmarshalText([]byte(f.network)); err != nil {
		return p, invalid("watch: --network: %s", err)
	}
	var err error
	if p.Metrics, err = f.metrics(); err != nil {
		return p, err
	}
	p.Defaults()
	if errs := p.Validate(); len(errs) > 0 {
		return p, invalid("watch: %s", strings.Join(watchFlagNames(errs), "; "))
	}
	return p, nil
}

// metrics is what --scrape and --series say.
func (f *watchFlags) metrics() (*fettle.Metrics, error) {
	if f.scrape == "" {
		if len(f.series) > 0 {
			return nil, invalid("watch: --series goes with --scrape PATH, which says where the metrics are")
		}
		return nil, nil
	}
	m := &fettle.Metrics{Path: f.scrape}
	if i := strings.LastIndexByte(f.scrape, ':'); i >= 0 {
		m.Path, m.Port = f.scrape[:i], f.scrape[i+1:]
	}
	for _, s := range f.series {
		name, role, has := strings.Cut(s, "=")
		x := fettle.Series{Metric: name}
		if has {
			x.Role = new(fettle.Role)
			if err := x.Role.UnmarshalText([]byte(role)); err != nil {
				return nil, invalid("watch: --series %s: %s", s, err)
			}
		}
		m.Series = append(m.Series, x)
	}
	return m, nil
}

// watchFlagNames says what is wrong in terms of the command line where there is a flag for it.
func watchFlagNames(errs []fettle.FieldError) []string {
	flags := map[string]string{
		"name": "--name", "watch.unit": "--unit", "watch.cgroup": "--cgroup", "watch.match": "--match",
		"detect.interval": "--interval", "detect.learn": "--learn", "limits.memory": "--memory-limit",
		"metrics.path": "--scrape", "metrics.port": "--scrape", "metrics.series": "--series",
	}
	var out []string
	for _, e := range errs {
		if e.Path == "watch" {
			out = append(out, "give one of PID..., --unit, --cgroup and --match")
			continue
		}
		name := e.Path
		if f, ok := flags[e.Path]; ok {
			name = f
		}
		out = append(out, name+" "+e.Msg)
	}
	return out
}

// watchName makes a pool name of a selection: "worker" of --unit worker@*.service.
func watchName(w *fettle.Watch) fettle.PoolName {
	from := ""
	switch {
	case w.Unit != "":
		from = strings.TrimSuffix(w.Unit, path.Ext(w.Unit))
	case w.Cgroup != "":
		from = strings.Trim(w.Cgroup, "/*?")
	case w.Match != "":
		from = w.Match
	default:
		if name, _ := watch.Program(w.PIDs[0]); name != "" {
			words := strings.Fields(name)
			from = filepath.Base(words[len(words)-1])
			from = strings.TrimSuffix(from, filepath.Ext(from))
		}
	}
	words := strings.FieldsFunc(strings.ToLower(from), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	name := strings.TrimLeft(strings.Join(words, "-"), "-0123456789")
	if name == "" {
		return "watched"
	}
	return fettle.PoolName(strings.TrimRight(name[:min(len(name), 40)], "-"))
}

// selection identifies what is watched. Processes are the same selection as others that ran the same programs: numbers
// change with every start.
func selection(w *fettle.Watch) string {
	s := w.String()
	if len(w.PIDs) > 0 {
		var ids []string
		for _, pid := range w.PIDs {
			_, id := watch.Program(pid)
			ids = append(ids, id)
		}
		slices.Sort(ids)
		s = "programs " + strings.Join(slices.Compact(ids), " ")
	}
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:4])
}
