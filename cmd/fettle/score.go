package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/score"
)

// scoreFlags are the flags of fettle score.
type scoreFlags struct {
	dir, out    string
	alone       bool
	pools       string
	roles       string
	every       time.Duration
	falseAlarms float64
}

func (c *cli) scoreCommand() *cobra.Command {
	var f scoreFlags
	cmd := &cobra.Command{
		Use:   "score {FILE | --pool DIR} --out OUT",
		Short: "Judge a recording or telemetry in CSV files row by row, as a live pool is judged",
		Long: `A recording (fettle record) gets the scores that its rows had live, bit for bit: the judge goes on from what it had
learnt when the recording began. Rows are those of fettle record export, an instance a member.

Telemetry in CSV files is read from DIR: NAME_train.csv and NAME_test.csv for each member of a pool, which may be
gzip'd (.csv.gz), a row an interval and a column a measurement. The first line may name the columns; cells that are
empty or NaN are missing. The judge learns from the rows of train and goes on with those of test in the same stream.

For each row, of test or of the recording, OUT/NAME_scores.csv says

  row    its number, from 0
  score  the one number to rank rows by: the greatest of the channels
  self   how far it is from the member's own past; 1 is the alarm's threshold
  peers  the same against the other members of its pool; empty without peers
  pool   the same of the pool as a whole; empty without peers
  alarm  1 where the verdict on the member or on its pool is low or above
  level  the verdict on the member: learning, steady, low, medium, high, critical

No labels are used, and what is said of a row rests on the rows up to that one. Members of one pool are compared with
each other, row by row. All of DIR are of one pool, unless DIR has a file pools.csv (or --pools names one) of lines
"instance,pool"; with --alone none is a peer of another. --roles says in YAML which columns tell the work that is asked
for; docs/score.md has the form, and how the scale of columns without a unit is found.`,
		Example: `  fettle score web.rec --out scores
  fettle score --pool telemetry --out scores --every 1m
  fettle score --pool telemetry --out scores --alone
  fettle score --pool shop --out scores --every 5m --roles roles.yaml --false-alarms 0.1 -o json`,
		Args: atMost("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags(), args); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends it at once
			if len(args) == 1 {
				return c.scoreRecording(ctx, args[0], &f)
			}
			return c.score(ctx, &f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "pool", "", "directory with the members' files")
	fl.StringVar(&f.out, "out", "", "directory to write to; it is made if it is missing, and scores that are there are replaced")
	fl.BoolVar(&f.alone, "alone", false, "no member is a peer of another")
	fl.StringVar(&f.pools, "pools", "", "CSV file of instance,pool (default pools.csv of the directory, if there is one)")
	fl.StringVar(&f.roles, "roles", "", "what the columns are (YAML; default: all are responses without a unit)")
	fl.DurationVar(&f.every, "every", 0, "time between rows (default that of the roles' file, or 1m)")
	fl.Float64Var(&f.falseAlarms, "false-alarms", score.FalseAlarms, "false alarms a member and day that are tolerated")
	return cmd
}

// check refuses what does not fit together.
func (f *scoreFlags) check(given *pflag.FlagSet, args []string) error {
	if len(args) == 1 {
		if st, err := os.Stat(args[0]); err == nil && st.IsDir() {
			return invalid("score: %s is a directory: --pool %s judges the CSV files in it", args[0], args[0])
		}
		for _, name := range []string{"pool", "alone", "pools", "roles", "every", "false-alarms"} {
			if given.Changed(name) {
				return invalid("score: --%s is for CSV files; a recording says itself how it is judged", name)
			}
		}
	}
	every := given.Changed("every")
	switch {
	case f.dir == "" && len(args) == 0:
		return invalid("score: name a recording, or the directory with NAME_train.csv and NAME_test.csv with --pool")
	case f.out == "":
		return invalid("score: --out is missing: the directory to write to")
	case f.alone && f.pools != "":
		return invalid("score: --alone and --pools exclude each other")
	case every && f.every < 10*time.Millisecond:
		return invalid("score: --every %s: at least 10ms", f.every)
	case !(f.falseAlarms > 0 && f.falseAlarms <= 1e6):
		return invalid("score: --false-alarms %g: more than 0, at most a million", f.falseAlarms)
	}
	return nil
}

// scored is what is told of one member.
type scored struct {
	Name      string  `json:"name"`
	Pool      string  `json:"pool,omitempty"`
	Members   int     `json:"members"` // that were judged together, with this one
	Train     int     `json:"train"`   // rows
	Test      int     `json:"test"`
	Alarms    int     `json:"alarms"` // runs of rows in alarm
	PerDay    float64 `json:"alarmsPerDay"`
	Share     float64 `json:"alarmShare"` // of the rows of test
	Highest   float64 `json:"highest"`    // score
	HighestAt int     `json:"highestRow"`
	File      string  `json:"file"`
}

// scoring is a scoring under way.
type scoring struct {
	f      *scoreFlags
	config score.Config
	pools  map[string]string

	mu      sync.Mutex
	done    map[string]scored
	columns []string
	show    *progress
	bytes   float64 // of all files
	read    float64 // of these, those whose rows were judged
}

func (c *cli) score(ctx context.Context, f *scoreFlags) error {
	files, err := score.Find(f.dir)
	if err != nil {
		return err
	}
	s := &scoring{f: f, done: map[string]scored{}, show: newProgress(c.err)}
	if err := s.begin(); err != nil {
		return err
	}
	for i := range files {
		s.bytes += sizeOf(&files[i])
	}
	groups := score.Together(files, s.pools)
	if f.alone {
		groups = score.Together(files, map[string]string{})
	}
	err = s.run(ctx, groups)
	s.show.clear()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("score: interrupted; the scores of %d of %d members are written", len(s.done), len(files))
		}
		return err
	}
	names := make([]string, len(files))
	for i := range files {
		names[i] = files[i].Name
	}
	return c.scored(s, names)
}

// begin reads what says how to judge.
func (s *scoring) begin() error {
	f := s.f
	s.config = score.Config{Every: f.every, FalseAlarms: f.falseAlarms}
	var err error
	if f.roles != "" {
		if s.config.Roles, err = score.ReadRoles(f.roles); err != nil {
			return err
		}
		if s.config.Every == 0 {
			s.config.Every = s.config.Roles.Every
		}
	}
	if s.config.Every == 0 {
		s.config.Every = score.Every
	}
	pools := f.pools
	if pools == "" && !f.alone {
		own := filepath.Join(f.dir, score.PoolsFile)
		if _, err := os.Stat(own); !errors.Is(err, os.ErrNotExist) {
			pools = own
		}
	}
	if pools != "" {
		if s.pools, err = score.Pools(pools); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return invalid("score: %s", err)
	}
	return nil
}

func sizeOf(f *score.Files) float64 {
	sum := 0.0
	for _, name := range []string{f.Train, f.Test} {
		if st, err := os.Stat(name); err == nil {
			sum += float64(st.Size())
		}
	}
	return sum
}

// run judges the groups, some at a time, until the first error.
func (s *scoring) run(ctx context.Context, groups [][]score.Files) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0))
	for _, g := range groups {
		work.Go(func() error { return s.group(ctx, g) })
	}
	return work.Wait()
}

// group judges members that are peers, and writes their scores.
func (s *scoring) group(ctx context.Context, files []score.Files) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	members := make([]score.Member, len(files))
	rows, bytes := 0, 0.0
	var err error
	for i := range files {
		if members[i], err = files[i].Read(); err != nil {
			return err
		}
		rows += len(members[i].Train) + len(members[i].Test)
		bytes += sizeOf(&files[i])
	}
	c := s.config
	c.Progress = func(n int) { s.progress(files[0].Name, bytes*float64(n)/float64(rows)) }
	all, err := score.Run(ctx, c, members)
	if err != nil {
		return err
	}
	for i := range members {
		path, err := score.WriteFile(s.f.out, members[i].Name, all[i])
		if err != nil {
			return fmt.Errorf("score: %w", err)
		}
		m := &members[i]
		s.note(scored{Name: m.Name, Pool: s.pools[m.Name], Members: len(members), Train: len(m.Train), File: path}, all[i])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.columns == nil {
		s.columns = members[0].Columns
	}
	return nil
}

func (s *scoring) progress(name string, bytes float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read += bytes
	s.show.share(s.read/s.bytes, "%s", name)
}

// note sums up what is said of a member's rows.
func (s *scoring) note(d scored, rows []score.Row) {
	d.Test = len(rows)
	before := false
	alarms := 0
	for i := range rows {
		r := &rows[i]
		if r.Alarm {
			alarms++
			if !before {
				d.Alarms++
			}
		}
		before = r.Alarm
		if r.Score > d.Highest {
			d.Highest, d.HighestAt = r.Score, i
		}
	}
	d.Share = float64(alarms) / float64(len(rows))
	d.PerDay = float64(d.Alarms) / (float64(len(rows)) * s.config.Every.Hours() / 24)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[d.Name] = d
}

// scored tells the result.
func (c *cli) scored(s *scoring, names []string) error {
	var sum scored
	out := make([]scored, 0, len(names))
	days := 0.0
	for _, name := range names {
		d := s.done[name]
		out = append(out, d)
		sum.Train += d.Train
		sum.Test += d.Test
		sum.Alarms += d.Alarms
		sum.Share += d.Share * float64(d.Test)
		days += float64(d.Test) * s.config.Every.Hours() / 24
	}
	sum.Share /= float64(sum.Test)
	sum.PerDay = float64(sum.Alarms) / days
	if c.format == "json" {
		return c.printJSON(struct {
			Every       fettle.Duration `json:"every"`
			FalseAlarms float64         `json:"falseAlarms"`
			Columns     []string        `json:"columns"`
			Train       int             `json:"train"`
			Test        int             `json:"test"`
			Alarms      int             `json:"alarms"`
			PerDay      float64         `json:"alarmsPerDay"`
			Share       float64         `json:"alarmShare"`
			Members     []scored        `json:"members"`
		}{
			fettle.Duration(s.config.Every), s.config.FalseAlarms, s.columns, sum.Train, sum.Test, sum.Alarms, sum.PerDay, sum.Share, out,
		})
	}
	t := newTable(painter(c.out), "member", "pool", ">rows", ">alarms", ">a day", ">of the time", ">highest", ">at row")
	for i := range out {
		d := &out[i]
		pool := d.Pool
		switch {
		case pool == "" && d.Members > 1:
			pool = "of all"
		case pool == "":
			pool = "-"
		}
		t.row(d.Name, pool, grouped(d.Test), grouped(d.Alarms), significant(d.PerDay), percent(d.Share), significant(d.Highest),
			fmt.Sprint(d.HighestAt))
	}
	t.print(c.out, "")
	c.say("%s rows of %d %s, %s apart: %s %s, %s a member and day, %s of the time; scores in %s",
		grouped(sum.Test), len(out), plural(len(out), "member"), fettle.Duration(s.config.Every), grouped(sum.Alarms),
		plural(sum.Alarms, "alarm"), significant(sum.PerDay), percent(sum.Share), s.f.out)
	return nil
}

// percent prints a share.
func percent(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }
