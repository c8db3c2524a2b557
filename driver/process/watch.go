package process

import (
	"cmp"
	"context"
	"maps"
	"slices"

	ft "github.com/fettle-dev/fettle"
)

// exited is an exit to report.
type exited struct {
	ref  ft.Ref
	exit ft.Exit
}

// watcher is one call of Watch.
type watcher struct{ wake chan struct{} } // holds a token when there may be something unheard

// Watch reports exits that no verb caused, of started and of adopted instances, until ctx ends. What happened since the
// driver was opened and was reported to nobody yet comes first. exited is called by one call at a time. Each exit is
// reported once, to one of the calls.
func (d *Driver) Watch(ctx context.Context, report func(ft.Ref, ft.Exit)) error {
	w := &watcher{wake: make(chan struct{}, 1)}
	d.mu.Lock()
	d.watch = append(d.watch, w)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.watch = slices.DeleteFunc(d.watch, func(o *watcher) bool { return o == w })
		d.mu.Unlock()
	}()
	for {
		d.mu.Lock()
		news := d.unheard
		d.unheard = nil
		d.mu.Unlock()
		for _, e := range news {
			report(e.ref, e.exit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-w.wake:
		}
	}
}

func (d *Driver) report(ref ft.Ref, exit ft.Exit) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unheard = append(d.unheard, exited{ref, exit})
	for _, w := range d.watch {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// attend follows a process to its end.
func (d *Driver) attend(l *life, p *proc) {
	d.wg.Go(func() {
		// Closing ends the wait. The descriptor stays open until then or until the instance is cleared, since by it the
		// process group can be reached after the leader's end.
		stop := context.AfterFunc(d.ctx, p.close)
		defer stop()
		if exit, ok := p.wait(); ok {
			d.ended(l, p, exit)
		}
	})
}

// ended notes how the process ended, and reports it unless a verb made it end.
func (d *Driver) ended(l *life, p *proc, exit ft.Exit) {
	l.mu.Lock()
	mine := l.rec != nil && l.proc == p
	if mine {
		killed := exit.Signal == 9 || !exit.Known
		exit.OOM = killed && l.rec.Group.OOMKills() > 0
		exit.LastOutput = lastOutput(l.dir)
		l.exit = &exit
	}
	p.finish(exit)
	if !mine || l.silent {
		l.mu.Unlock()
		return
	}
	ref := l.rec.Instance.Ref
	// For the next daemon; without it the exit is known, its status is not.
	if err := save(l.dir, exitFile, ending{Token: l.rec.Token, Exit: exit}); err != nil {
		d.log.Warn("how an instance ended cannot be noted", "instance", ref.String(), "error", err)
	}
	l.mu.Unlock()
	d.report(ref, exit)
}

func compare[T cmp.Ordered](a, b T) int { return cmp.Compare(a, b) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
