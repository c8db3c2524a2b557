package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/config"
	"github.com/fettle-dev/fettle/recording"
)

// replayFlags are the flags of fettle replay.
type replayFlags struct {
	sets []string
	anew bool
	all  bool
}

func (c *cli) replayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Let a brain see a recording again, under the same policy or another one",
		Long: `Without --set the brain sees what the recorded one saw and must decide the same: it is compared, and a difference is
shown and exits with 1.

With --set it shows what would have been decided under another policy, beside what was: lines marked - were decided
in the recording only, those marked + in the replay only. What was measured stays as it was, so an action that was
not done when this was recorded ends as skipped, and what follows is what would follow had it not helped.
docs/recording.md has the rules. Where detect.learn or detect.falseAlarms are set, the judge learns anew from the
recording.

A recording of telemetry from elsewhere (fettle record import) has no decisions to compare: verdicts and decisions
are shown.`,
		Example: `  fettle replay web.rec
  fettle replay web.rec --set heal.young=10m
  fettle replay web.rec --set mode=heal --set detect.persist=30s -o json`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends it at once
			return c.replay(ctx, args[0], &f)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.sets, "set", nil, "PATH=VALUE as in the pool file, such as heal.young=10m; may be repeated")
	fl.BoolVar(&f.anew, "anew", false, "use nothing that was learnt before the recording began")
	fl.BoolVar(&f.all, "all", false, "also show what is the same on both sides")
	return cmd
}

// openRecording opens a recording; read tells how much of the file was read, below 0 where that is
// not known. Where it waits for more, ctx ends that.
func openRecording(ctx context.Context, file string) (r *recording.Reader, read func() float64, closed func() error, err error) {
	in := os.Stdin
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return nil, nil, nil, invalid("%s", err)
		}
	}
	st, err := in.Stat()
	if err == nil && st.IsDir() {
		err = invalid("%s is a directory", file)
	}
	if err == nil {
		r, err = recording.NewReader(whileAsked(ctx, in, st))
	}
	if err != nil {
		if errors.Is(err, recording.ErrFormat) {
			err = invalid("%s: %s", file, err)
		}
		return nil, nil, nil, errors.Join(err, in.Close())
	}
	size := float64(st.Size())
	return r, func() float64 {
		at, err := in.Seek(0, io.SeekCurrent)
		if err != nil || size == 0 {
			return -1
		}
		return float64(at) / size
	}, in.Close, nil
}

// whileAsked reads what may keep its reader waiting, such as a pipe, until ctx ends; files are given back as they are. What
// was begun to be read then is left to the end of the process.
func whileAsked(ctx context.Context, in io.Reader, st os.FileInfo) io.Reader {
	if st.Mode().IsRegular() {
		return in
	}
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	return r
}

// replayed is a replay under way.
type replayed struct {
	c     *cli
	p     paint
	file  string
	head  *recording.Header
	r     *recording.Reader
	sum   recording.Summary
	day   string
	diffs []replayLine
	more  int // lines beyond those that are kept
	cut   bool
}

// replayLine is a line of a comparison, for machines.
type replayLine struct {
	At   time.Time `json:"at"`
	Side string    `json:"side"` // both, recorded, replayed
	Kind string    `json:"kind"`
	Text string    `json:"text"`
}

var sideNames = map[recording.Side]string{recording.Both: "both", recording.OnlyRecorded: "recorded", recording.OnlyReplayed: "replayed"}

// mostLines is how many lines are kept for -o json.
const mostLines = 100_000

func (c *cli) replay(ctx context.Context, file string, f *replayFlags) error {
	r, read, closed, err := openRecording(ctx, file)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%s: interrupted before its first line: %w", file, context.Cause(ctx))
		}
		return err
	}
	defer func() { _ = closed() }() // it was only read
	play, err := c.player(r, f)
	if err != nil {
		return err
	}
	v := &replayed{c: c, p: painter(c.out), file: file, head: r.Header(), r: r}
	exact := len(f.sets) == 0 && !f.anew && !v.head.Imported
	if c.format != "json" {
		v.begin(play)
	}
	show := newProgress(c.err)
	for ctx.Err() == nil {
		turn, err := play.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			show.clear()
			return errors.Join(fmt.Errorf("%s: %w", file, err), v.end(exact))
		}
		d := v.sum.Add(turn)
		if !exact || d != nil && v.sum.Differing <= mostShown || f.all {
			show.clear()
			v.turn(turn, d, exact, f.all)
		}
		if done, until := read(), turn.At.Local().Format(time.DateTime); done < 0 {
			show.set("%s", until)
		} else {
			show.share(done, "%s", until)
		}
	}
	show.clear()
	v.cut = ctx.Err() != nil
	return v.end(exact)
}

// mostShown is how many steps that differ are shown where none should: all after the first follow from it.
const mostShown = 3

// player begins the replay that the flags ask for.
func (c *cli) player(r *recording.Reader, f *replayFlags) (*recording.Player, error) {
	if len(f.sets) == 0 && !f.anew && !r.Header().Imported {
		play, err := recording.Play(r)
		if errors.Is(err, recording.ErrLearnt) {
			err = fmt.Errorf("%w; --anew replays it without", err)
		}
		return play, err
	}
	play, err := recording.PlayChanged(r, f.anew, func(p *fettle.Pool) error {
		if len(f.sets) == 0 {
			return nil
		}
		return config.Override(p, f.sets)
	})
	var bad *config.Error
	switch {
	case errors.As(err, &bad):
		return nil, &fileError{err}
	case errors.Is(err, recording.ErrLearnt):
		return nil, fmt.Errorf("%w; --anew replays it without", err)
	case errors.Is(err, recording.ErrInert):
		return nil, invalid("replay: --set: %s", err)
	}
	return play, err
}

func (v *replayed) begin(play *recording.Player) {
	h := v.head
	from := "recorded by fettle " + h.Fettle
	if h.Imported {
		from = "imported"
	}
	v.c.say("%s: pool %s, from %s, %s", v.file, h.Pool.Name, h.At.Local().Format(time.DateTime), from)
	if play.Anew() {
		v.c.say("the judge learns anew from the recording")
	}
}

// turn shows what a step made, or in what it differs.
func (v *replayed) turn(t *recording.Turn, d *recording.Difference, exact, all bool) {
	for _, l := range t.Compare() {
		f, skipped := l.Event.(*fettle.Finished)
		switch {
		case l.Side == recording.Both && !all && !v.head.Imported:
			continue
		case skipped && !f.Withdrawn && !exact:
			continue // what became of an action tells itself by what follows
		case fettle.EventKind(l.Event) == "health" && !exact:
			continue
		}
		v.line(t.At, l)
	}
	if exact && d != nil && d.Note != "" && v.c.format != "json" {
		v.c.say("%s", d)
	}
}

func (v *replayed) line(at time.Time, l recording.Line) {
	kind, text := fettle.EventKind(l.Event), l.Event.String()
	if i, is := l.Event.(*fettle.Intended); is {
		text = i.Action.String() // why stands with the operation
	}
	if v.c.format == "json" {
		if len(v.diffs) >= mostLines {
			v.more++
			return
		}
		v.diffs = append(v.diffs, replayLine{At: at, Side: sideNames[l.Side], Kind: kind, Text: text})
		return
	}
	local := at.Local()
	if day := local.Format(time.DateOnly); day != v.day {
		v.day = day
		v.c.say("%s", v.p.dim(day))
	}
	mark, colour := " ", func(s string) string { return s }
	switch {
	case v.head.Imported:
	case l.Side == recording.OnlyRecorded:
		mark, colour = "-", v.p.red
	case l.Side == recording.OnlyReplayed:
		mark, colour = "+", v.p.green
	case l.Side == recording.Both:
	}
	v.c.say("%s %s  %-10s  %s", colour(mark), v.p.dim(local.Format(time.TimeOnly)), kind, colour(text))
}

// errDiffers is a replay that did not decide what was recorded.
var errDiffers = errors.New("the replay differs from the recording")

// end sums up. A difference where there should be none is an error.
func (v *replayed) end(exact bool) error {
	differs := exact && v.sum.Differing > 0
	broken := ""
	if !v.cut {
		if _, err := v.r.End(); err != nil {
			broken = err.Error()
		}
	}
	if v.c.format == "json" {
		if differs {
			v.c.code = 1
		}
		return v.json(exact, broken)
	}
	if broken != "" {
		v.c.say("%s: %s; what came before is replayed", v.file, broken)
	}
	switch {
	case v.cut && v.sum.Ended.IsZero():
		v.c.say("interrupted before the first step")
	case v.cut:
		v.c.say("interrupted: this is what was replayed until %s", v.sum.Ended.Local().Format(time.DateTime))
	}
	s := &v.sum
	what := fmt.Sprintf("%s, %s frames, %s rows", span(s.Ended.Sub(s.Began)), grouped(s.Frames), grouped(s.Rows))
	switch {
	case differs:
		return fmt.Errorf("%s: %w in %s of its steps; after the first the others follow from it", v.file, errDiffers, grouped(s.Differing))
	case exact:
		v.c.say("%s: %s decisions and %s verdicts, all as recorded", what, grouped(s.Decided.Recorded), grouped(s.Judged.Recorded))
		return nil
	}
	v.table(what)
	return nil
}

// table is the summary of both sides.
func (v *replayed) table(what string) {
	s := &v.sum
	v.c.say("")
	v.c.say("%s", what)
	if !v.head.Imported && s.Otherwise == 0 {
		v.c.say("nothing would have been decided otherwise: each verdict and each decision is as recorded")
	}
	if s.Judged.Replayed == 0 && v.head.Judge != nil {
		v.c.say("no verdict yet: the judge learns for %s", v.head.Judge.Learn)
	}
	heads := []string{"", ">recorded", ">replayed"}
	if v.head.Imported {
		heads = []string{"", ">replayed"}
	}
	t := newTable(v.p, heads...)
	row := func(name string, p recording.Pair) {
		switch {
		case p == recording.Pair{}:
		case v.head.Imported:
			t.row(name, grouped(p.Replayed))
		default:
			t.row(name, grouped(p.Recorded), grouped(p.Replayed))
		}
	}
	for l := fettle.Learning; l <= fettle.Critical; l++ {
		row("verdicts "+l.String(), s.Levels[l.String()])
	}
	for l := fettle.Learning; l <= fettle.Critical; l++ {
		row("verdicts of the pool "+l.String(), s.PoolLevels[l.String()])
	}
	for o := fettle.Grow; o <= fettle.Retune; o++ {
		row("operations "+o.String(), s.Operations[o.String()])
	}
	for a := fettle.Start; a <= fettle.Weigh; a++ {
		row("actions "+a.String(), s.Verbs[a.String()])
	}
	row("actions skipped", recording.Pair{Replayed: s.Skipped})
	t.print(v.c.out, "  ")
}

// json prints all for machines.
func (v *replayed) json(exact bool, broken string) error {
	if v.diffs == nil {
		v.diffs = []replayLine{}
	}
	return v.c.printJSON(map[string]any{
		"file": v.file, "pool": v.head.Pool.Name, "imported": v.head.Imported, "samePolicy": exact,
		"equal": exact && v.sum.Differing == 0, "broken": broken, "interrupted": v.cut, "summary": v.sum, "lines": v.diffs, "moreLines": v.more,
	})
}

// grouped prints a number with a comma between the thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
