package process_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func knob(ks []ft.Knob, name string) (ft.Knob, bool) {
	for _, k := range ks {
		if k.Name == name {
			return k, true
		}
	}
	return ft.Knob{}, false
}

// TestTuning checks that a setting holds in the kernel, is undone by a full reset, and is known to the next driver.
func TestTuning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	if _, ok := knob(w.d.Knobs(&p, in), "memory"); ok {
		t.Error("a memory knob without any declared limit")
	}
	k, ok := knob(w.d.Knobs(&p, in), "cpu")
	if !ok {
		t.Skip("this machine gives no CPU weights and no session priorities")
	}
	before := weight(t, in)
	if _, err := w.d.Set(t.Context(), &p, in.Ref, ft.Setting{Knob: "cpu", Value: 2 * k.Value}); err != nil {
		t.Fatal(err)
	}
	raised := weight(t, in)
	t.Logf("cpu %g is %s, cpu %g is %s", k.Value, before, 2*k.Value, raised)
	if raised == before {
		t.Errorf("the kernel still has %s", before)
	}
	w.reopen()
	if k, _ := knob(w.d.Knobs(&p, in), "cpu"); k.Value != 200 {
		t.Errorf("the next driver knows cpu as %g, want 200", k.Value)
	}
	in, err := w.d.FullReset(t.Context(), &p, in.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if got := weight(t, in); got != before {
		t.Errorf("after a full reset the kernel has %s, want %s", got, before)
	}
	if k, _ := knob(w.d.Knobs(&p, in), "cpu"); k.Value != 100 {
		t.Errorf("after a full reset cpu is %g, want 100", k.Value)
	}
	if ks := w.d.Knobs(&p, ft.Instance{Ref: ref(1, 1)}); ks != nil {
		t.Errorf("knobs of an older life: %v", ks)
	}
}

// weight is what the kernel has for the instance: cpu.weight, cpu.shares, or the priority of its session.
func weight(t *testing.T, in ft.Instance) string {
	t.Helper()
	for _, f := range []string{
		filepath.Join(in.Scope.CgroupV2, "cpu.weight"), filepath.Join(in.Scope.CgroupV1["cpu"], "cpu.shares"),
		fmt.Sprintf("/proc/%d/autogroup", in.Scope.PID),
	} {
		if b, err := os.ReadFile(f); err == nil {
			_, priority, _ := strings.Cut(string(b), " ")
			if priority == "" {
				priority = string(b)
			}
			return filepath.Base(f) + " " + strings.TrimSpace(priority)
		}
	}
	t.Fatal("no weight anywhere")
	return ""
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("hog")
	p.Limits.Memory = 128 << 20
	in := w.start(&p, 1)
	k, ok := knob(w.d.Knobs(&p, in), "memory")
	if !ok {
		t.Skip("this machine lets nobody limit memory: ", w.d.Facts()[:2])
	}
	if k.Value != 128<<20 || k.Max <= k.Value {
		t.Errorf("memory knob %+v, want it to start at the declared limit with room above", k)
	}
	ask(t, in, "POST", "/take?mib=90", "")
	if _, err := w.d.Set(t.Context(), &p, in.Ref, ft.Setting{Knob: "memory", Value: 32 << 20}); !errors.Is(err, ft.ErrConflict) {
		t.Errorf("less memory than is in use: %v, want ErrConflict", err)
	}
	if !alive(in) {
		t.Fatal("a refused setting killed the instance")
	}
	if k, _ := knob(w.d.Knobs(&p, in), "memory"); k.Value != 128<<20 {
		t.Errorf("a refused setting is noted: %g", k.Value)
	}
	if _, err := w.d.Set(t.Context(), &p, in.Ref, ft.Setting{Knob: "memory", Value: 256 << 20}); err != nil {
		t.Fatal(err)
	}
	ask(t, in, "POST", "/take?mib=100", "")
	if !alive(in) {
		t.Fatal("190 MiB do not fit into 256")
	}
	exits := make(chan ft.Exit, 1)
	go func() { _ = w.d.Watch(t.Context(), func(_ ft.Ref, e ft.Exit) { exits <- e }) }()
	go func() { _ = tryAsk(in, "/take?mib=200") }()
	if e := <-exits; !e.OOM {
		t.Errorf("taking too much ended it as %+v, want out of memory", e)
	}
}

// TestSoftReset checks that a failing verification is told with what the instance said.
func TestSoftReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	if err := w.d.SoftReset(t.Context(), &p, in.Ref); err != nil {
		t.Fatal(err)
	}
	if got := get(t, in, "/state"); got != "+reset" {
		t.Errorf("the hook was not called: %q", got)
	}
	p.Image.Hooks.Verify = &ft.Hook{HTTP: &ft.HTTPHook{Path: "/fail"}}
	err := w.d.SoftReset(t.Context(), &p, in.Ref)
	if err == nil || !strings.Contains(err.Error(), "verify: POST /fail: status 503 Service Unavailable: cache is cold") {
		t.Errorf("failed verification: %v", err)
	}
}

// TestSpecialize injects another tenant's data into a running instance.
func TestSpecialize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	source := filepath.Join(filepath.Dir(w.image), "us.conf")
	w.write(source, "region: us")
	p := w.pool("serve")
	p.Specializations = []ft.Specialization{
		{Name: "us", Files: map[string]string{"region.conf": source}, WarmUp: []string{"/file?name=region.conf"}},
		{Name: "dumb"},
	}
	in := w.start(&p, 1)
	work := ft.Work{Specialization: "us", Key: "acme"}
	if _, err := w.d.Specialize(t.Context(), &p, in.Ref, work); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("without a reload hook: %v, want ErrUnavailable", err)
	}
	p.Image.Hooks.Reload = &ft.Hook{Signal: "HUP"}
	got, err := w.d.Specialize(t.Context(), &p, in.Ref, work)
	if err != nil || got.Work != work || got.Digest == in.Digest || got.Scope.PID != in.Scope.PID {
		t.Errorf("specialized: %+v, %v", got, err)
	}
	if s := get(t, in, "/file?name=region.conf"); s != "region: us" {
		t.Errorf("the injected file: %q", s)
	}
	eventually(t, "the signal arrives", func() bool { return get(t, in, "/state") == "+hup" })
	if _, err := w.d.Specialize(t.Context(), &p, in.Ref, ft.Work{Specialization: "none"}); !errors.Is(err, ft.ErrNotFound) {
		t.Errorf("unknown specialization: %v, want ErrNotFound", err)
	}
	w.write(source, "region: us-2")
	if got, err = w.d.FullReset(t.Context(), &p, in.Ref); err != nil || got.Work != work {
		t.Fatalf("full reset: %+v, %v; want the work kept", got, err)
	}
	if s := get(t, got, "/file?name=region.conf"); s != "region: us-2" {
		t.Errorf("after the full reset: %q", s)
	}
}

// TestLeftovers opens a driver over what cut-short starts and stops, and a disk, may leave.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool("serve")
	in := w.start(&p, 1)
	lost := w.start(&p, 2)
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	dir := func(id string) string { return filepath.Join(w.state, "instances", "web", id) }
	record, err := os.ReadFile(filepath.Join(dir("web-1"), "instance.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join(dir("web-7"), "data", "x"), "a stop that removed the record only")
	w.write(filepath.Join(dir("web-8"), "instance.json"), strings.ReplaceAll(string(record), "web-1", "web-8"))
	w.write(filepath.Join(dir("web-8"), "lock"), "")
	w.write(filepath.Join(dir("web-2"), "instance.json"), "not a record")
	for _, g := range in.Scope.CgroupV1 {
		if err := os.Mkdir(filepath.Join(filepath.Dir(g), "web-9"), 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	w.open()
	ins, err := w.d.List(t.Context(), "")
	if err != nil || len(ins) != 1 || ins[0].Ref != in.Ref || ins[0].Scope.PID != in.Scope.PID {
		t.Errorf("%+v, %v; want web-1 only", ins, err)
	}
	for _, id := range []string{"web-7", "web-8", "web-2"} {
		if _, err := os.Stat(dir(id)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", id, err)
		}
	}
	for _, g := range in.Scope.CgroupV1 {
		if _, err := os.Stat(filepath.Join(filepath.Dir(g), "web-9")); !os.IsNotExist(err) {
			t.Errorf("the group of web-9 is still there: %v", err)
		}
	}
	if alive(lost) {
		t.Error("an instance without a readable record runs on, and nobody manages it")
	}
	kept, err := filepath.Glob(dir("web-2.corrupt-*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("the corrupt record is not kept: %v, %v", kept, err)
	}
	for _, k := range kept {
		if err := os.RemoveAll(k); err != nil {
			t.Error(err)
		}
	}
	w.start(&p, 8)
}

// TestInterruptedStart adopts an instance whose start was cut short while it was warming: it is listed, and asking
// for it again carries on.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	meet := t.TempDir()
	if err := w.d.Close(); err != nil {
		t.Fatal(err)
	}
	c := w.owner("one", "rendezvous", meet)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the instance runs", func() bool {
		_, err := os.Stat(filepath.Join(meet, "port"))
		return err == nil
	})
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	w.open()
	ins, err := w.d.List(t.Context(), "web")
	if err != nil || len(ins) != 1 || ins[0].Exit != nil || !alive(ins[0]) {
		t.Fatalf("%+v, %v; want the instance that is still warming", ins, err)
	}
	p := w.pool("rendezvous", meet)
	w.write(filepath.Join(meet, "go"), "")
	in := w.start(&p, 1)
	if in.Scope.PID != ins[0].Scope.PID || get(t, in, "/") != "ok\n" {
		t.Errorf("started %+v, want it carried on with %+v", in, ins[0])
	}
	if in.Born.After(time.Now()) {
		t.Error("born in the future")
	}
}
