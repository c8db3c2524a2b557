package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/recording"
)

// The exact limits of Garwood's table, to its digits.
func TestGarwood(t *testing.T) {
	for n, want := range map[int][2]float64{0: {0, 3.689}, 1: {0.0253, 5.572}, 5: {1.623, 11.668}, 10: {4.795, 18.390}, 50: {37.11, 65.92}} {
		low, high := garwood(n)
		if math.Abs(low-want[0]) > 0.006 || math.Abs(high-want[1]) > 0.006 {
			t.Errorf("%d: %g to %g, want %g to %g", n, low, high, want[0], want[1])
		}
	}
	if got := atMost(0); math.Abs(got-2.9957) > 1e-3 {
		t.Errorf("of none at most %g", got)
	}
}

func TestHealthyRowsBeginBeyondALabel(t *testing.T) {
	labels := make([]bool, 100)
	labels[40], labels[41] = true, true
	for i, is := range healthy(labels) {
		if want := i < 40 || i > 41+beyond; is != want {
			t.Errorf("row %d: healthy %v", i, is)
		}
	}
}

const trainRows, testRows = 600, 400

// member are rows of four columns, which from one row of test on are elsewhere.
func member(rng *rand.Rand, n, from int) []string {
	out := make([]string, n)
	for i := range out {
		load := math.Sin(float64(i)/30) + 0.1*rng.NormFloat64()
		off := 0.0
		if i >= from {
			off = 30
		}
		out[i] = fmt.Sprintf("%.3f,%.3f,%.3f,%.3f", 50+5*load+rng.NormFloat64()+off, 100+20*load+2*rng.NormFloat64(), 10+rng.NormFloat64()+off, 5+0.5*rng.NormFloat64())
	}
	return out
}

// folder has a pool of four, of which one falls ill in row 200 of test.
func folder(t *testing.T, labelled bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "jumpstarter")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, lines []string) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		fmt.Fprintln(z, strings.Join(lines, "\n"))
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	pools := []string{"instance,pool"}
	for i := range 4 {
		name, ill := fmt.Sprintf("s%d", i), testRows
		if i == 2 {
			ill = 200
		}
		write(name+"_train.csv.gz", member(rng, trainRows, trainRows))
		write(name+"_test.csv.gz", member(rng, testRows, ill))
		labels := slices.Repeat([]string{"0"}, testRows)
		for k := ill; k < testRows && labelled; k++ {
			labels[k] = "1"
		}
		write(name+"_label.csv.gz", labels)
		pools = append(pools, name+",P")
	}
	if err := os.WriteFile(filepath.Join(dir, "pools.csv"), []byte(strings.Join(pools, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(dir)
}

// rows are the values of a report by metric.
func rows(t *testing.T, args []string, data string) (map[string]float64, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "actions.json")
	var text bytes.Buffer
	if err := run(append(args, "-out", out), data, &text); err != nil {
		t.Fatal(err)
	}
	r, err := report.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]float64{}
	for _, row := range r.Rows {
		by[row.Metric] = row.Value
	}
	return by, text.String()
}

// One that falls ill is acted on: falsely where nobody labelled it, and rightly where somebody did.
func TestActionsAreFalseInHealthyTimeOnly(t *testing.T) {
	by, text := rows(t, nil, folder(t, false))
	days := 4 * testRows / 288.
	if got := by["JumpStarter: healthy time"]; math.Abs(got-days) > 1e-6 {
		t.Errorf("healthy time %g instance-days, want %g", got, days)
	}
	n := 0.0
	for _, k := range kinds {
		n += by["JumpStarter: of these actions "+k.String()]
	}
	if rate := by["JumpStarter: false disruptive actions"]; n == 0 || math.Abs(rate-100*n/days) > 1e-6 {
		t.Errorf("%g actions, %g per 100 instance-days", n, rate)
	}
	if !strings.Contains(text, "s2") || !strings.Contains(text, "instance changed") || strings.Contains(text, "s1 ") {
		t.Errorf("what explains them is not told: %s", text)
	}
	by, _ = rows(t, nil, folder(t, true))
	if got := by["JumpStarter: false disruptive actions"]; got != 0 {
		t.Errorf("%g false actions where it is labelled", got)
	}
	if by["JumpStarter: actions in labelled time"] == 0 {
		t.Error("no actions in labelled time")
	}
	if by["JumpStarter: alarms in labelled time"] == 0 {
		t.Error("no alarms in labelled time")
	}
}

// A recording of healthy programs is replayed in mode heal, whatever its own mode was.
func TestRecordings(t *testing.T) {
	pools, err := loadPools(filepath.Join(folder(t, false), "jumpstarter"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := pools[0].recording()
	if err != nil {
		t.Fatal(err)
	}
	r, err := recording.NewReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Header().Pool.Mode; m != 0 {
		t.Fatalf("the recording has mode %s already", m)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.rec"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	by, text := rows(t, []string{"-recordings", dir}, "")
	days := 4 * (trainRows + testRows - 121) / 288. // without the first baseline
	if got := by["recordings: healthy time"]; math.Abs(got-days) > 0.02 {
		t.Errorf("healthy time %g instance-days, want %g", got, days)
	}
	if by["recordings: false disruptive actions"] == 0 || !strings.Contains(text, "p.rec") {
		t.Errorf("nothing is told of the one that fell ill: %s", text)
	}
	if _, err := sources("", t.TempDir(), false); err == nil {
		t.Error("a directory without recordings is no error")
	}
	twice, err := recordingsOf(dir + "," + filepath.Join(dir, "p*"))
	if err != nil || len(twice) != 2 {
		t.Errorf("the directory and a pattern give %v, %v", twice, err)
	}
	if _, err := sources("", "", false); err == nil || !strings.Contains(err.Error(), "FETTLE_DATA") {
		t.Errorf("without data: %v", err)
	}
}

// What is only watched is never acted on, but its planner says what it would do.
func TestWatchedPoolsAreCounted(t *testing.T) {
	said := func(rule, text string) *ft.Declined {
		return &ft.Declined{Ref: ft.Ref{ID: "web-2"}, Reason: ft.Reason{Rule: rule, Text: text}}
	}
	would := "it is only watched; were it run by Fettle, in mode heal this would follow: full reset, since memory_anon 2 GiB"
	for _, tt := range []struct {
		name    string
		e       ft.Event
		watched bool
		kind    ft.Operation
	}{
		{"watched", said("observe", would), true, ft.FullResetting},
		{"run by Fettle", said("observe", would), false, ft.NoOperation},
		{"a light step", said("observe", "in mode heal this would follow: tuning, since"), true, ft.NoOperation},
		{"another refusal", said("persistence", would), true, ft.NoOperation},
		{"drift", &ft.Opened{Ref: ft.Ref{ID: "web-2"}, Kind: ft.Evict, Reason: ft.Reason{Rule: "leak-evict"}}, false, ft.Evict},
		{"a command", &ft.Opened{Kind: ft.Evict, Reason: ft.Reason{Rule: "command"}}, false, ft.NoOperation},
		{"a setting", &ft.Opened{Kind: ft.Retune, Reason: ft.Reason{Rule: "drift-tune"}}, false, ft.NoOperation},
	} {
		a, is := disruption(tt.e, tt.watched)
		if is != (tt.kind != ft.NoOperation) || is && (a.kind != tt.kind || a.who != "web-2") {
			t.Errorf("%s: %v %+v, want %s", tt.name, is, a, tt.kind)
		}
	}
}
