package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/recording"
)

// recordFlags are the flags of fettle record.
type recordFlags struct {
	file    string
	length  time.Duration
	force   bool
	secrets bool
	result  string
}

func (c *cli) recordCommand() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:   "record [POOL] -o FILE",
		Short: "Record what a pool's brain sees and decides, for fettle replay",
		Long: `Writes to a file what the brain of a pool sees from now on (measurements, events, outcomes) and what it decides,
from the present state and what was learnt so far. Ctrl-C ends it; --for does so after a time. Nothing waits for the
recording: one whose reader is too slow ends, and says so.

fettle replay FILE lets the brain see it again, under the same policy or another one. The format is gzip with one
JSON value a line: zcat FILE | jq. See docs/recording.md.

The file holds the pool's policy, the last output of instances that failed, and the routes that were requested.
Values of environment variables, arguments of commands and bodies of HTTP hooks are left out unless --with-secrets
is given. It is readable for you only.

It stands under its name once the recording has begun; until then a file that --force overwrites stays as it was.`,
		Example: `  fettle record -o web.rec
  fettle record web -o web.rec --for 10m
  fettle record web -o - | ssh other 'cat > web.rec'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.resultAs(f.result); err != nil {
				return err
			}
			if f.file == "" {
				return invalid("record: -o is missing: the file to write, - is the output")
			}
			if err := notAFormat("record", f.file); err != nil {
				return err
			}
			if f.length < 0 {
				return invalid("record: --for: %s is negative", f.length)
			}
			cl, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			pool, err := onePool(cmd.Context(), cl, args)
			if err != nil {
				return err
			}
			return c.record(cmd.Context(), cl, pool, &f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "output", "o", "", "file to write; - is the output")
	fl.DurationVar(&f.length, "for", 0, "end after this time, such as 10m")
	fl.StringVar(&f.result, "format", "text", "form of the result: text or json")
	fl.BoolVar(&f.force, "force", false, "overwrite the file")
	fl.BoolVar(&f.secrets, "with-secrets", false, "keep values of environment variables, arguments of commands and bodies of HTTP hooks")
	cmd.AddCommand(c.exportCommand(), c.importCommand())
	return cmd
}

// onePool is the pool that is named, or the only one.
func onePool(ctx context.Context, cl *client.Client, args []string) (fettle.PoolName, error) {
	ps, err := cl.Pools(ctx)
	if err != nil {
		return "", err
	}
	if len(args) == 1 {
		p, err := poolNamed(ps, args[0])
		if err != nil {
			return "", err
		}
		return p.Name, nil
	}
	var names []string
	for i := range ps {
		names = append(names, string(ps[i].Name))
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("the daemon has no pool: %w", fettle.ErrNotFound)
	case 1:
		return ps[0].Name, nil
	}
	return "", invalid("record: say which pool: %s", strings.Join(names, ", "))
}

// tape is a recording under way, as the command sees it.
type tape struct {
	c     *cli
	file  string
	out   *sink
	w     *recording.Writer
	begun time.Time
	show  *progress
	head  *recording.Header
	end   *recording.End
	rows  int
	steps int
}

// newTape begins to write to out, which is called file.
func newTape(c *cli, file string, out *sink, show *progress) *tape {
	return &tape{c: c, file: file, out: out, w: recording.NewWriter(out), begun: time.Now(), show: show}
}

// record records until it is asked to end.
func (c *cli) record(ctx context.Context, cl *client.Client, pool fettle.PoolName, f *recordFlags) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if f.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.length)
		defer cancel()
	}
	out, err := c.create("record", f.file, f.force)
	if err != nil {
		return err
	}
	t := newTape(c, f.file, out, newProgress(c.err))
	why, err := t.run(ctx, cl, pool, f.secrets)
	if err != nil {
		return err
	}
	return t.tell(pool, why)
}

// run records until ctx ends, and says why it ended. The file is there from the header on; where none came, what was there
// before stays.
func (t *tape) run(ctx context.Context, cl *client.Client, pool fettle.PoolName, secrets bool) (string, error) {
	err := cl.Record(ctx, pool, secrets, t.line)
	t.show.clear()
	why := t.ended(ctx, err)
	if t.end == nil && t.head != nil {
		e := recording.End{At: time.Now().UTC().Round(0), Reason: why}
		if err := t.w.End(e); err != nil {
			return why, errors.Join(err, t.out.Close())
		}
	}
	if err := errors.Join(t.w.Flush(), t.out.Close()); err != nil {
		return why, fmt.Errorf("record: %w", err)
	}
	if t.head == nil {
		if err == nil {
			err = errNoHeader
		}
		return why, fmt.Errorf("record pool %s: %w", pool, err)
	}
	return why, nil
}

// errNoHeader is a recording that ended before it began.
var errNoHeader = errors.New("it ended before it began; nothing is written")

// askedFor is why a recording ends as it should.
const askedFor = "asked for"

// ended says why the recording ended.
func (t *tape) ended(ctx context.Context, err error) string {
	switch {
	case t.end != nil:
		return t.end.Reason
	case ctx.Err() != nil:
		return askedFor
	case errors.Is(err, io.EOF):
		return "the daemon ended"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the daemon was killed"
	default:
		return err.Error()
	}
}

// line takes a line from the daemon.
func (t *tape) line(b []byte) error {
	defer t.shown()
	if len(b) == 0 {
		return t.w.Age()
	}
	if t.head == nil {
		h, err := recording.PeekHeader(b)
		if err != nil {
			return err
		}
		if err := t.w.Line(b); err != nil {
			return err
		}
		if err := t.out.keep(); err != nil {
			return err
		}
		t.head = h
		return nil
	}
	rows, end := recording.Peek(b)
	t.rows += rows
	if rows > 0 {
		t.steps++
	}
	t.end = end
	return t.w.Line(b)
}

func (t *tape) shown() {
	t.show.set("recording %s: %s, %d rows, %s; Ctrl-C ends it", t.name(), span(time.Since(t.begun)), t.rows, bytesOf(float64(t.w.Size())))
}

func (t *tape) name() string {
	if t.head == nil {
		return ""
	}
	return string(t.head.Pool.Name)
}

// tell says what was recorded, on stderr where the recording itself is the output.
func (t *tape) tell(pool fettle.PoolName, why string) error {
	what := t.holds(pool)
	if n := len(t.head.Redacted); n > 0 {
		what += fmt.Sprintf("; %d secret %s left out", n, plural(n, "value"))
	}
	if why != askedFor {
		return fmt.Errorf("record: it ended since %s; %s holds %s: %w", why, t.file, what, errRecordingEnded)
	}
	if t.c.format == "json" {
		return t.c.result(t.out, map[string]any{
			"file": t.file, "pool": pool, "frames": t.steps, "rows": t.rows, "bytes": t.w.Size(), "reason": why,
			"redacted": append([]string{}, t.head.Redacted...),
		})
	}
	if t.out.output() {
		fmt.Fprintln(t.c.err, "recorded "+what)
		return nil
	}
	t.c.say("recorded %s, in %s; fettle replay %s replays it", what, t.file, t.file)
	return nil
}

// holds is what the recording holds so far.
func (t *tape) holds(pool fettle.PoolName) string {
	return fmt.Sprintf("%s of pool %s: %d frames, %d rows, %s", span(time.Since(t.begun)), pool, t.steps, t.rows, bytesOf(float64(t.w.Size())))
}

// errRecordingEnded is a recording that ended before it was asked to.
var errRecordingEnded = errors.New("all until then can be replayed")
