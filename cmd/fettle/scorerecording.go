package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/score"
	"github.com/fettle-dev/fettle/recording"
)

// scoreRecording writes the scores that the rows of a recording had live, a file an instance.
func (c *cli) scoreRecording(ctx context.Context, file string, f *scoreFlags) error {
	r, read, closed, err := openRecording(ctx, file)
	if err != nil {
		return err
	}
	defer func() { _ = closed() }() // it was only read
	h := r.Header()
	if h.Judge == nil {
		return invalid("score: %s: nothing was judged in it", file)
	}
	play, err := c.player(r, &replayFlags{})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return invalid("score: %s", err)
	}
	all := &rowsOf{rows: map[fettle.InstanceID][]score.Row{}, show: newProgress(c.err)}
	err = all.take(ctx, play, read)
	all.show.clear()
	switch {
	case ctx.Err() != nil:
		return errors.New("score: interrupted; nothing is written")
	case err != nil:
		return fmt.Errorf("score: %s: %w", file, err)
	case len(all.order) == 0:
		return invalid("score: %s: it has no rows", file)
	}
	s := &scoring{f: f, done: map[string]scored{}, show: all.show}
	s.config.Every, s.config.FalseAlarms = h.Judge.Interval.D(), h.Judge.FalseAlarms
	for i := range r.Schema().Len() {
		s.columns = append(s.columns, r.Schema().At(i).Name)
	}
	names := make([]string, 0, len(all.order))
	for _, id := range all.order {
		path, err := score.WriteFile(f.out, string(id), all.rows[id])
		if err != nil {
			return fmt.Errorf("score: %w", err)
		}
		s.note(scored{Name: string(id), Pool: string(h.Pool.Name), Members: len(all.order), File: path}, all.rows[id])
		names = append(names, string(id))
	}
	if _, err := r.End(); err != nil {
		fmt.Fprintf(c.err, "%s: %s; what came before is scored\n", file, err)
	}
	return c.scored(s, names)
}

// rowsOf are the scores of a recording by instance, in the order in which these appeared.
type rowsOf struct {
	rows  map[fettle.InstanceID][]score.Row
	order []fettle.InstanceID
	show  *progress
}

// take replays to the end.
func (a *rowsOf) take(ctx context.Context, play *recording.Player, read func() float64) error {
	stream := score.StreamOf(play.Judge())
	var rows []score.Row
	for ctx.Err() == nil {
		turn, err := play.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(turn.Rows) == 0 {
			continue
		}
		rows = stream.Last(rows[:0])
		for i, ref := range turn.Rows {
			if a.rows[ref.ID] == nil {
				if ref.ID == "" || strings.ContainsAny(string(ref.ID), "/\\\x00") || strings.HasPrefix(string(ref.ID), ".") {
					return fmt.Errorf("%q makes no name of a file", ref.ID)
				}
				a.order = append(a.order, ref.ID)
			}
			a.rows[ref.ID] = append(a.rows[ref.ID], rows[i])
		}
		if done := read(); done >= 0 {
			a.show.share(done, "%s", turn.At.Local().Format(time.DateTime))
		}
	}
	return ctx.Err()
}
