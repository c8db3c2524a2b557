package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/journal"
)

// page is how many entries of the journal are read at a time.
const page = 1000

// Log gives entries of the journal, and with Follow those that come. All are read from the journal by their sequence
// number, also those that come, so that none is lost or given twice between history and what follows.
func (d *daemon) Log(ctx context.Context, filter api.LogFilter, f func(api.LogEntry) error) error {
	q := journal.Filter{
		Pool: filter.Pool, Instance: filter.Instance, Since: filter.Since, Kinds: filter.Kinds, After: filter.After,
	}
	if filter.Limit > 0 {
		q.Limit = filter.Limit
		before, err := d.latest(ctx) // where following begins if nothing is selected yet
		if err != nil {
			return err
		}
		es, err := d.store.Query(ctx, q)
		if err != nil {
			return err
		}
		if q.After, err = give(es, q.After, f); err != nil || !filter.Follow {
			return err
		}
		if q.After == 0 {
			q.After = before
		}
	}
	q.Limit = page
	if q.After == 0 {
		// Without After a limit means the last entries; there is none before the first.
		q.Limit = 0
	}
	for {
		news := d.news.next()
		es, err := d.store.Query(ctx, q)
		if err == nil {
			q.After, err = give(es, q.After, f)
		}
		switch {
		case ctx.Err() != nil && filter.Follow:
			return nil
		case err != nil:
			return err
		case q.Limit > 0 && len(es) == q.Limit:
			continue
		case !filter.Follow:
			return nil
		}
		if q.After > 0 {
			q.Limit = page
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// latest is the sequence number of the last entry.
func (d *daemon) latest(ctx context.Context) (uint64, error) {
	es, err := d.store.Query(ctx, journal.Filter{Limit: 1})
	if err != nil || len(es) == 0 {
		return 0, err
	}
	return es[0].Seq, nil
}

// give hands entries over and says which was the last.
func give(es []journal.Entry, last uint64, f func(api.LogEntry) error) (uint64, error) {
	for _, e := range es {
		raw, err := fettle.MarshalEvent(e.Event)
		if err != nil {
			return last, fmt.Errorf("log entry %d: %w", e.Seq, err)
		}
		err = f(api.LogEntry{
			Seq: e.Seq, Pool: e.Pool, Instance: fettle.EventRef(e.Event).ID, Kind: fettle.EventKind(e.Event),
			At: e.Event.When(), Text: e.Event.String(), Event: raw,
		})
		if err != nil {
			return last, err
		}
		last = e.Seq
	}
	return last, nil
}

// pollOutput is how often a followed output is looked at: the file is written by the instance itself.
const pollOutput = 200 * time.Millisecond

// tail writes the end of a file, and with Follow what is added to it. The driver cuts the file's head off when it has
// grown too long; then what is left is followed from there.
func tail(ctx context.Context, path string, o api.OutputOptions, w io.Writer) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, fettle.ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := start(f, o.Lines)
	if err != nil {
		return err
	}
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	t := time.NewTicker(pollOutput)
	defer t.Stop()
	for {
		n, err := io.Copy(w, f)
		at += n
		if err != nil || !o.Follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if st.Size() < at {
			at = st.Size()
			if _, err := f.Seek(at, io.SeekStart); err != nil {
				return err
			}
		}
	}
}

// start is where the last lines of a file begin; 0 lines are all.
func start(f *os.File, lines int) (int64, error) {
	st, err := f.Stat()
	if err != nil || lines == 0 {
		return 0, err
	}
	const block = 32 << 10
	buf := make([]byte, block)
	end := st.Size()
	for at := end; at > 0; {
		n := min(at, block)
		at -= n
		if _, err := f.ReadAt(buf[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		b := buf[:n]
		for {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if at+int64(i) != end-1 { // the newline at the very end ends the last line
				if lines--; lines == 0 {
					return at + int64(i) + 1, nil
				}
			}
			b = b[:i]
		}
	}
	return 0, nil
}
