package recording

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

var begun = time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)

func testPool() ft.Pool {
	p := ft.Pool{Name: "web", Mode: ft.HealAutomatic, Listen: ":80", Image: ft.Image{
		Command: []string{"server", "--token=secret-4"}, Env: map[string]string{"TOKEN": "secret-1"},
		Hooks: ft.Hooks{SoftReset: &ft.Hook{HTTP: &ft.HTTPHook{Path: "/reset", Body: "secret-2"}, Timeout: ft.Duration(time.Second)}, Verify: &ft.Hook{Command: []string{"check", "secret-5"}}},
	}, Probes: ft.Probes{Liveness: &ft.Probe{Command: []string{"alive", "-p", "secret-6"}}}, Specializations: []ft.Specialization{{Name: "big", Env: map[string]string{"KEY": "secret-3"}}}}
	p.Defaults()
	return p
}

func testSchema(t testing.TB) *ft.Schema {
	s, err := ft.NewSchema([]ft.Dimension{
		{Name: "offered", Unit: "1/s", Role: ft.Load, Transform: ft.Log1p},
		{Name: "cpu", Unit: "cores", Role: ft.Response, Transform: ft.Log1p, Kind: ft.Counter, Floor: 0.01},
		{Name: "memory", Unit: "B", Role: ft.Response, Unbounded: true, Every: time.Minute},
	}, ft.CategorySet{Name: "routes", Role: ft.Load, Size: 3}, ft.CategorySet{Name: "status", Role: ft.Response, Size: 2, Labels: []string{"2xx", "5xx"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testLines is a header and the encoder of its steps.
func testHeader(t testing.TB, learnt []byte, secrets bool) (*Header, *encoder) {
	p := testPool()
	state, err := plan.New(p).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b := &engine.Base{Pool: p, State: state, Journal: true, Profiles: learnt}
	b.Judge.Interval, b.Judge.Learn, b.Judge.FalseAlarms = time.Second, 2*time.Minute, 1
	h, err := newHeader(b, testSchema(t), begun, Options{Fettle: "test", Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return h, &encoder{pool: p.Name, secrets: secrets}
}

// write makes a file of steps.
func write(t testing.TB, h *Header, e *encoder, end bool, steps ...*Step) []byte {
	t.Helper()
	var file bytes.Buffer
	w := NewWriter(&file)
	lines, err := h.lines()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		b, err := e.step(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b)
	}
	for _, l := range lines {
		if err := w.Line(l); err != nil {
			t.Fatal(err)
		}
	}
	if end {
		err = w.End(End{At: begun, Reason: "test"})
	} else {
		err = w.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// float draws any number there is.
func floatOf(rt *rapid.T, label string) float64 {
	return rapid.OneOf(
		rapid.Float64(),
		rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64, 0.1, 1e21, 1e-7}),
		rapid.Custom(func(t *rapid.T) float64 {
			f := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
			if math.IsNaN(f) {
				return math.NaN()
			}
			return f
		}),
	).Draw(rt, label)
}

func drawFrame(rt *rapid.T, s *ft.Schema) *ft.Frame {
	f := &ft.Frame{Schema: s, At: begun.Add(time.Duration(rapid.Int64Range(0, 1e15).Draw(rt, "at")))}
	n := rapid.IntRange(1, 4).Draw(rt, "rows")
	for i := range n {
		life := ft.Ref{ID: ft.NewInstanceID("web", rapid.Uint32().Draw(rt, "serial")), Generation: rapid.Uint32().Draw(rt, "generation")}.Life()
		f.Rows = append(f.Rows, ft.Row{
			Slot: ft.Slot(i * 7), Life: life, Group: rapid.Uint32().Draw(rt, "group"), Settings: rapid.Uint32().Draw(rt, "settings"),
			Age: rapid.Float32().Draw(rt, "age"), Held: rapid.Bool().Draw(rt, "held"), Serving: rapid.Bool().Draw(rt, "serving"),
		})
	}
	f.Reset(n)
	for i := range f.X {
		f.X[i] = floatOf(rt, "x")
	}
	for i := range f.Counts {
		f.Counts[i] = rapid.Uint32().Draw(rt, "count")
	}
	for i := range f.Rows {
		f.Have[i] = ft.Dims(rapid.Uint64Range(0, 1<<s.Len()-1).Draw(rt, "have"))
		f.Span[i] = rapid.Float32().Draw(rt, "span")
	}
	f.Demand = ft.Demand{Arrivals: floatOf(rt, "arrivals"), InFlight: floatOf(rt, "inFlight")}
	f.Labels = rapid.SliceOfN(rapid.StringN(0, 5, 20), 0, s.Categories()).Draw(rt, "labels")
	return f
}

// TestFramesReadAsWritten holds for every frame: each number is read as it was, bit for bit.
func TestFramesReadAsWritten(t *testing.T) {
	schema := testSchema(t)
	bits := cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
	bits32 := cmp.Comparer(func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
	rapid.Check(t, func(rt *rapid.T) {
		h, e := testHeader(t, nil, false)
		var steps []*Step
		for range rapid.IntRange(1, 4).Draw(rt, "steps") {
			steps = append(steps, &Step{At: begun.Add(time.Duration(len(steps))), Frame: drawFrame(rt, schema)})
		}
		r, err := NewReader(bytes.NewReader(write(t, h, e, true, steps...)))
		if err != nil {
			rt.Fatal(err)
		}
		for _, want := range steps {
			got, err := r.Next()
			if err != nil {
				rt.Fatal(err)
			}
			if !got.At.Equal(want.At) {
				rt.Fatalf("at %s, want %s", got.At, want.At)
			}
			g, w := *got.Frame, *want.Frame
			if g.Schema.Digest() != w.Schema.Digest() {
				rt.Fatal("the schema is another")
			}
			g.Schema, w.Schema = nil, nil
			empty := cmp.Transformer("empty", func(s []string) []string { return append([]string{}, s...) })
			if d := cmp.Diff(w.X, g.X, bits) + cmp.Diff(w.Span, g.Span, bits32) + cmp.Diff(w.Rows, g.Rows, bits32) +
				cmp.Diff(w.Have, g.Have) + cmp.Diff(w.Counts, g.Counts) + cmp.Diff(w.Labels, g.Labels, empty) + cmp.Diff(w.Demand, g.Demand, bits); d != "" {
				rt.Fatal(d)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			rt.Fatalf("after the last step: %v", err)
		}
	})
}

func someSteps(t testing.TB) []*Step {
	f := &ft.Frame{Schema: testSchema(t), At: begun, Rows: []ft.Row{{Life: ft.Ref{ID: "web-1", Generation: 1}.Life(), Serving: true}}}
	f.Reset(1)
	f.Have[0] = 7
	f.X[0], f.Span[0] = 40.5, 1
	ref := ft.Ref{ID: "web-1", Generation: 1}
	stamp := ft.Stamp{At: begun}
	return []*Step{
		{At: begun, Events: []ft.Event{&ft.Configured{Stamp: stamp, Pool: testPool()}, &ft.Exited{Stamp: stamp, Ref: ref, Exit: ft.Exit{Code: 1, Known: true, At: begun}}}},
		{At: begun.Add(1), Frame: f, Made: []ft.Event{&ft.Recovered{Stamp: stamp, Ref: ref, Text: "better"}}, Did: []uint64{3, 4}},
		{At: begun.Add(2), Written: []engine.Written{{Batch: 1, Err: errors.New("disk full")}, {Batch: 1, Seq: 7}, {Batch: 2, Lost: true}}},
	}
}

func TestStepsReadAsWritten(t *testing.T) {
	h, e := testHeader(t, bytes.Repeat([]byte{1, 2, 3}, chunk), false)
	r, err := NewReader(bytes.NewReader(write(t, h, e, true, someSteps(t)...)))
	if err != nil {
		t.Fatal(err)
	}
	if h := r.Header(); !h.At.Equal(begun) || h.Fettle != "test" || h.Pool.Name != "web" || !bytes.Equal(h.learnt, bytes.Repeat([]byte{1, 2, 3}, chunk)) || h.Profiles != 3 {
		t.Errorf("header %+v", h.Pool)
	}
	a, _ := r.Next()
	if len(a.Events) != 2 || a.Events[1].String() != "web-1 exited with status 1" {
		t.Errorf("events %v", a.Events)
	}
	b, _ := r.Next()
	if b.Rows[0] != (ft.Ref{ID: "web-1", Generation: 1}) || b.Made[0].String() != "web-1: better" || !slices.Equal(b.Did, []uint64{3, 4}) {
		t.Errorf("step %+v", b)
	}
	c, _ := r.Next()
	if len(c.Written) != 3 || c.Written[0].Err.Error() != "disk full" || c.Written[1].Seq != 7 || !c.Written[2].Lost {
		t.Errorf("written %+v", c.Written)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if end, err := r.End(); err != nil || end.Reason != "test" {
		t.Errorf("end %+v, %v", end, err)
	}
}

// TestSecretsAreLeftOut looks at the plain text of a file.
func TestSecretsAreLeftOut(t *testing.T) {
	for _, keep := range []bool{false, true} {
		h, e := testHeader(t, nil, keep)
		z, err := gzip.NewReader(bytes.NewReader(write(t, h, e, true, someSteps(t)...)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"secret-1", "secret-2", "secret-3", "secret-4", "secret-5", "secret-6"} {
			if has := bytes.Contains(text, []byte(secret)); has != keep {
				t.Errorf("keep %v: %s is in the file: %v", keep, secret, has)
			}
		}
		want := []string{
			"image.command[1]", "image.env.TOKEN", "image.hooks.softReset.http.body", "image.hooks.verify.command[1]",
			"probes.liveness.command[1]", "probes.liveness.command[2]", "specializations[0].env.KEY",
		}
		if !keep && !slices.Equal(h.Redacted, want) {
			t.Errorf("redacted %v", h.Redacted)
		}
	}
	if p := testPool(); p.Image.Env["TOKEN"] != "secret-1" {
		t.Error("the pool itself was changed")
	}
}

// TestTornFiles cuts a file at every place: all lines that are whole are read, and the break is told.
func TestTornFiles(t *testing.T) {
	h, e := testHeader(t, nil, false)
	var file bytes.Buffer
	w := NewWriter(&file)
	lines, err := h.lines()
	if err != nil {
		t.Fatal(err)
	}
	var safe []int // steps that are in complete members, by size of the file
	for range 4 {
		for _, s := range someSteps(t) {
			b, err := e.step(nil, s)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, b)
		}
	}
	for i, l := range lines {
		if err := w.Line(l); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		for len(safe) < file.Len() {
			safe = append(safe, 0)
		}
		if i%5 == 0 {
			safe = append(safe, i)
		}
	}
	if err := w.End(End{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	all := file.Bytes()
	for cut := range all {
		r, err := NewReader(bytes.NewReader(all[:cut]))
		if err != nil {
			if !errors.Is(err, ErrFormat) || cut < len(safe) && safe[cut] > 0 {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			continue
		}
		n := 0
		for {
			_, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			n++
		}
		if cut < len(safe) && n < safe[cut] {
			t.Fatalf("cut at %d: %d steps are read, %d were complete", cut, n, safe[cut])
		}
		if end, err := r.End(); end == nil && (err == nil || !strings.Contains(err.Error(), "breaks off after line")) {
			t.Fatalf("cut at %d: the break is not told: %v", cut, err)
		}
	}
}

func TestVersions(t *testing.T) {
	h, e := testHeader(t, nil, false)
	h.Minor = 7
	b := write(t, h, e, true)
	text := plainText(t, b)
	text = strings.Replace(text, `"minor":7`, `"minor":7,"newer":{"a":[1]}`, 1)
	text += `{"news":"of a kind that is not known"}` + "\n"
	r, err := NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatalf("a newer minor version: %v", err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	_, err = NewReader(strings.NewReader(strings.Replace(text, `"version":1`, `"version":2`, 1)))
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), `version 2 of the format, written by fettle "test"; this program reads version 1`) {
		t.Errorf("a newer major version: %v", err)
	}
}

func plainText(t testing.TB, file []byte) string {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestBadFiles: errors name the line.
func TestBadFiles(t *testing.T) {
	h, e := testHeader(t, nil, false)
	good := plainText(t, write(t, h, e, true, someSteps(t)...))
	lines := strings.SplitAfter(good, "\n")
	with := func(i int, line string) string {
		c := slices.Clone(lines)
		c[i] = line + "\n"
		return strings.Join(c, "")
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":         {"", "line 1: the file is empty"},
		"no recording":    {"hello\n", `line 1: it does not begin with {"format": "fettle recording"}`},
		"no JSON":         {with(2, "{"), "line 3: "},
		"rows too short":  {with(2, `{"at":"2026-01-01T00:00:00Z","frame":{"rows":[{"id":"web-1","x":[1]}]}}`), "line 3: frame: row 0: 1 values of 3 dimensions"},
		"slot twice":      {with(2, `{"at":"2026-01-01T00:00:00Z","frame":{"rows":[{"x":[1,2,3]},{"x":[1,2,3]}]}}`), "line 3: frame: row 1: slot 0 is given twice"},
		"slot too high":   {with(2, `{"at":"2026-01-01T00:00:00Z","frame":{"rows":[{"slot":4000000,"x":[1,2,3]}]}}`), "line 3: frame: row 0: slot 4000000"},
		"no number":       {with(2, `{"at":"2026-01-01T00:00:00Z","frame":{"rows":[{"x":[1,"a",3]}]}}`), "line 3: frame: row 0: "},
		"long row":        {with(2, `{"at":"2026-01-01T00:00:00Z","frame":{"rows":[{"x":[`+strings.Repeat("1,", 100)+`1]}]}}`), "a list of more than 64 values"},
		"unknown event":   {with(2, `{"at":"2026-01-01T00:00:00Z","events":[{"kind":"dreamt","event":{}}]}`), `line 3: events: event kind "dreamt"`},
		"many events":     {with(2, `{"at":"2026-01-01T00:00:00Z","events":[`+strings.Repeat(`{"kind":"began","event":{}},`, maxList)+`{"kind":"began","event":{}}]}`), "line 3: events: a list of more than"},
		"long line":       {with(2, strings.Repeat(" ", maxLine+2)), "line 3: it has more than"},
		"missing profile": {strings.Replace(good, `"profiles":0`, `"profiles":1`, 1), "line 2: profiles are missing here"},
		"many members":    {strings.Replace(good, `"members":null`, `"members":[`+strings.Repeat("{},", maxRows)+`{}]`, 1), `line 1: header: "members": a list of more than`},
	} {
		r, err := NewReader(strings.NewReader(c.text))
		for err == nil {
			_, err = r.Next()
		}
		if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.300v\nwant %s", name, err, c.want)
		}
	}
	// A stream that expands without end is cut off at the length of a line.
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.CopyN(z, blanks{}, maxLine*2)
	z.Close()
	if _, err := NewReader(&bomb); err == nil || !strings.Contains(err.Error(), "line 1: it has more than") {
		t.Errorf("a bomb: %v", err)
	}
}

type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestZcatReadsIt: who has no Fettle has zcat.
func TestZcatReadsIt(t *testing.T) {
	zcat, err := exec.LookPath("zcat")
	if err != nil {
		t.Skip("zcat is not installed")
	}
	h, e := testHeader(t, nil, false)
	file := write(t, h, e, true, someSteps(t)...)
	cmd := exec.Command(zcat)
	cmd.Stdin = bytes.NewReader(append(slices.Clone(file[:0:0]), file...))
	out, err := cmd.Output()
	if err != nil || string(out) != plainText(t, file) {
		t.Errorf("zcat: %v, %d bytes", err, len(out))
	}
}

// FuzzReader: no file makes the reader fail other than with an error that names a line.
func FuzzReader(f *testing.F) {
	h, e := testHeader(f, []byte{1, 2, 3}, false)
	file := write(f, h, e, true, someSteps(f)...)
	f.Add(file)
	f.Add([]byte(plainText(f, file)))
	f.Add(file[:len(file)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			if !strings.Contains(err.Error(), "line ") {
				t.Errorf("the line is missing: %v", err)
			}
			return
		}
		p, perr := Play(r)
		for n := 0; err == nil && n < 100; n++ {
			if perr != nil {
				_, err = r.Next()
			} else {
				_, err = p.Next()
			}
		}
		if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), fmt.Sprintf("line %d", r.Line())) {
			t.Errorf("the line is missing: %v", err)
		}
	})
}
