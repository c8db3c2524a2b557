package process

import (
	"context"
	"fmt"
	"path/filepath"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/hook"
)

// CanSoftReset tells whether the pool declares how; an [ft.ErrUnavailable] if not.
func (d *Driver) CanSoftReset(p *ft.Pool, w ft.Work) error {
	if p.Hooks(w).SoftReset == nil {
		return fmt.Errorf("soft reset: the pool declares no hooks.softReset: %w", ft.ErrUnavailable)
	}
	return nil
}

// SoftReset puts the specialization's files into the data directory again and calls the declared hook, then the verify
// hook where there is one. The process runs on.
func (d *Driver) SoftReset(ctx context.Context, p *ft.Pool, ref ft.Ref) error {
	l, rec, release, err := d.take(ctx, ref)
	if err != nil {
		return fmt.Errorf("soft reset: %w", err)
	}
	defer release()
	w := rec.Instance.Work
	if err := d.CanSoftReset(p, w); err != nil {
		return err
	}
	if err := injectFiles(ctx, p, w, rec.User, filepath.Join(l.dir, dataDir)); err != nil {
		return fmt.Errorf("soft reset %s: %w", ref, err)
	}
	h := p.Hooks(w)
	if err := d.call(ctx, l, rec, h.SoftReset); err != nil {
		return fmt.Errorf("soft reset %s: %w", ref, err)
	}
	if err := d.call(ctx, l, rec, h.Verify); err != nil {
		return fmt.Errorf("soft reset %s: verify: %w", ref, err)
	}
	return nil
}

// Specialize injects the work's files, has them loaded by the reload hook and warms up. The work is noted before any of
// its data is injected, so that data of a tenant is never in an instance that is not known to be the tenant's. The
// same work again is the light re-specialisation. A specialization's environment takes effect at the next full reset.
func (d *Driver) Specialize(ctx context.Context, p *ft.Pool, ref ft.Ref, w ft.Work) (ft.Instance, error) {
	l, rec, release, err := d.take(ctx, ref)
	if err != nil {
		return ft.Instance{}, fmt.Errorf("specialize: %w", err)
	}
	defer release()
	if w.Specialization != "" && p.Specialization(w.Specialization) == nil {
		return ft.Instance{}, fmt.Errorf("specialize %s: no specialization %q: %w", ref, w.Specialization, ft.ErrNotFound)
	}
	h := p.Hooks(w)
	if h.Reload == nil {
		return ft.Instance{}, fmt.Errorf("specialize %s: no hooks.reload is declared: %w", ref, ft.ErrUnavailable)
	}
	if err := l.update(func(r *record) { r.Instance.Work, r.Instance.Digest = w, digest(p, w) }); err != nil {
		return ft.Instance{}, fmt.Errorf("specialize %s: %w", ref, err)
	}
	if err := injectFiles(ctx, p, w, rec.User, filepath.Join(l.dir, dataDir)); err != nil {
		return ft.Instance{}, fmt.Errorf("specialize %s: %w", ref, err)
	}
	if err := d.call(ctx, l, rec, h.Reload); err != nil {
		return ft.Instance{}, fmt.Errorf("specialize %s: %w", ref, err)
	}
	if err := warmUp(ctx, p, w, rec.Instance.Endpoint); err != nil {
		return ft.Instance{}, fmt.Errorf("specialize %s: %w", ref, err)
	}
	in, _ := l.describe()
	return in, nil
}

// take holds a running instance by its present Ref.
func (d *Driver) take(ctx context.Context, ref ft.Ref) (*life, *record, func(), error) {
	l, release, err := d.hold(ctx, ref.ID, false)
	if err != nil {
		return nil, nil, nil, err
	}
	if l == nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", ref, ft.ErrNotFound)
	}
	if err := l.current(ref); err != nil {
		release()
		return nil, nil, nil, err
	}
	rec, _, _ := l.snapshot()
	if !l.running() {
		release()
		return nil, nil, nil, fmt.Errorf("%s does not run: %w", ref, ft.ErrNotFound)
	}
	return l, &rec, release, nil
}

func (d *Driver) call(ctx context.Context, l *life, rec *record, h *ft.Hook) error {
	in, ok := l.describe()
	if !ok {
		return ft.ErrNotFound
	}
	return hook.Call(ctx, h, in, rec.Env, rec.Cwd)
}

// FullReset ends the life, puts a fresh copy of image and specialization's files in the place of its data, and starts
// the next generation with the same work and the settings of a new instance. The copy is made while the old life still
// runs. Whatever fails, nothing is left running.
func (d *Driver) FullReset(ctx context.Context, p *ft.Pool, ref ft.Ref) (ft.Instance, error) {
	l, release, err := d.hold(ctx, ref.ID, false)
	if err != nil {
		return ft.Instance{}, fmt.Errorf("full reset: %w", err)
	}
	defer release()
	if l == nil {
		return ft.Instance{}, fmt.Errorf("full reset %s: %w", ref, ft.ErrNotFound)
	}
	if err := l.current(ref); err != nil {
		return ft.Instance{}, fmt.Errorf("full reset: %w", err)
	}
	rec, _, _ := l.snapshot()
	return d.bringUp(ctx, p, l, ft.Ref{ID: ref.ID, Generation: ref.Generation + 1}, rec.Instance.Work)
}
