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
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/internal/score"
)

// write gzips lines.
func write(t *testing.T, path string, lines []string) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	fmt.Fprintln(z, strings.Join(lines, "\n"))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// telemetry has four columns, of which two follow each other; rows of sick do not.
func telemetry(rng *rand.Rand, n int, sick func(i int) bool) []string {
	out := make([]string, n)
	for i := range out {
		v := 50 + 5*math.Sin(float64(i)/40) + rng.NormFloat64()
		w := v
		if sick(i) {
			w = v + 20
		}
		out[i] = fmt.Sprintf("%.3f,%.3f,%.3f,%.3f", v, 2*w+rng.NormFloat64(), 10+rng.NormFloat64(), 5+rng.NormFloat64())
	}
	return out
}

// folder is made data of the form of the real one.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 1))
	never := func(int) bool { return false }
	for k, set := range []string{"smd", "asd", "jumpstarter"} {
		for i := range 3 {
			name := filepath.Join(dir, set, fmt.Sprintf("m-%d", i))
			labelled := func(r int) bool { return r >= 700+10*k && r < 730+10*k }
			labels := make([]string, 800)
			for r := range labels {
				labels[r] = "0"
				if labelled(r) {
					labels[r] = "1"
				}
			}
			write(t, name+"_train.csv.gz", telemetry(rng, 900, never))
			write(t, name+"_test.csv.gz", telemetry(rng, 800, labelled))
			write(t, name+"_label.csv.gz", labels)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "jumpstarter", "pools.csv"), []byte("instance,pool\nm-0,A\nm-1,A\nm-2,A\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		lines := []string{"unix_time,a,b,c,d"}
		for r, line := range telemetry(rng, baseline+200, func(r int) bool { return i == 1 && r > 100 && r <= 106 }) {
			lines = append(lines, fmt.Sprintf("%d,%s", 60*r, line))
		}
		lines[5] = "240,,,,"
		write(t, filepath.Join(dir, "nezha-ob", fmt.Sprintf("pod-%d.csv.gz", i)), lines)
	}
	if err := os.WriteFile(filepath.Join(dir, "nezha-ob", "faults.csv"), []byte("unix_time,pod,type\n6000,pod-1,network_delay\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEachSetIsMeasuredAndReported(t *testing.T) {
	out := filepath.Join(t.TempDir(), "detect.json")
	var tables bytes.Buffer
	if err := run([]string{"-quick", "-machines", "-out", out}, folder(t), &tables); err != nil {
		t.Fatal(err)
	}
	r, err := report.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]report.Row{}
	for _, row := range r.Rows {
		rows[row.Metric+" beside "+row.Peer] = row
	}
	for _, c := range []struct {
		row        string
		peerAtMost float64
		peerAbove  float64
	}{
		{"SMD: VUS-PR beside ridge Mahalanobis", 1, 0.8},
		{"ASD: segment recall beside ridge Mahalanobis", 1, 0.99},
		{"ASD: median delay beside ridge Mahalanobis", 0, -1},
		{"JumpStarter: normal time in alarm beside ridge Mahalanobis", 0.1, -1},
		{"JumpStarter: false alarms per instance-day beside z bands", 5, -1},
		{"SMD: machines with the higher VUS-PR beside PCA residual", 2, -1},
		{"One sick member: VUS-PR beside Fettle, alone", 1, 0},
		{"One sick member: VUS-PR, pools of 3 beside ridge Mahalanobis", 1, 0.2},
		{"Nezha: AC@1 beside ridge Mahalanobis", 1, 0.99},
		{"Nezha: false alarms per pod-day beside z bands", 50, -1},
	} {
		row, ok := rows[c.row]
		if !ok || row.PeerValue == nil || *row.PeerValue > c.peerAtMost || *row.PeerValue <= c.peerAbove {
			t.Errorf("%s: %+v", c.row, row)
		}
	}
	if row := rows["SMD: VUS-PR beside ridge Mahalanobis"]; row.Value < 0.5 {
		t.Errorf("Fettle's VUS-PR of twenty deviations: %g", row.Value)
	}
	for _, want := range []string{"SMD: means of 2 machines", "ASD: means", "JumpStarter: means", "m-1      A", "One sick member", "Nezha: the injected pod"} {
		if !strings.Contains(tables.String(), want) {
			t.Errorf("no table says %q:\n%s", want, tables.String())
		}
	}
}

func TestStreamsAreMeasuredWithoutEachPart(t *testing.T) {
	var tables bytes.Buffer
	if err := run([]string{"-quick", "-ablate"}, folder(t), &tables); err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(tables.String()) {
		if name, rest, ok := strings.Cut(line, "  "); ok {
			rows[name] = strings.Fields(rest)
		}
	}
	for _, name := range []string{"nothing", "level", "high pass", "adoption", "second run a day"} {
		// Of three sets the two halves around a slash and three more numbers, of sick members the halves.
		if len(rows[name]) != 3*6+3 {
			t.Errorf("%q: %q", name, rows[name])
		}
	}
	if whole := rows["nothing"]; len(whole) > 0 && whole[0] == "0" {
		t.Errorf("nothing was found: %q", whole)
	}
	held := heldOut([]machine{{Member: score.Member{Name: "a1"}}, {Member: score.Member{Name: "a10"}}, {Member: score.Member{Name: "b"}}})
	if d := cmp.Diff(map[string]bool{"a10": false, "a1": true, "b": false}, held); d != "" {
		t.Error(d)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	whole := folder(t)
	for _, c := range []struct {
		name string
		hurt func(dir string) string // of a whole folder; gives FETTLE_DATA
		args []string
		want string
	}{
		{"no folder named", func(string) string { return "" }, nil, "FETTLE_DATA is not set"},
		{"a set", func(dir string) string { os.RemoveAll(filepath.Join(dir, "asd")); return dir }, nil, filepath.Join("asd")},
		{"labels", func(dir string) string { os.Remove(filepath.Join(dir, "smd", "m-0_label.csv.gz")); return dir }, []string{"-set", "smd"}, "m-0_label.csv.gz"},
		{"some labels", func(dir string) string {
			write(t, filepath.Join(dir, "smd", "m-1_label.csv.gz"), []string{"0", "1"})
			return dir
		}, []string{"-set", "smd"}, "2 labels for 800 test rows"},
		{"a label", func(dir string) string {
			write(t, filepath.Join(dir, "smd", "m-1_label.csv.gz"), []string{"0", "x"})
			return dir
		}, []string{"-set", "smd"}, "m-1_label.csv.gz:2"},
		{"a pod", func(dir string) string { os.Remove(filepath.Join(dir, "nezha-ob", "pod-1.csv.gz")); return dir }, []string{"-set", "nezha"}, "no pod \"pod-1\""},
		{"a set of that name", func(dir string) string { return dir }, []string{"-set", "smb"}, "no set of that name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if err := run(c.args, c.hurt(dir), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestOneMemberIsShiftedInQuietRowsOnly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	m := &machine{Member: score.Member{Columns: make([]string, 5)}}
	for range 2000 {
		row := []float64{rng.NormFloat64(), 100 * rng.NormFloat64(), 7, 3 + rng.NormFloat64(), rng.NormFloat64()}
		m.Train, m.Test = append(m.Train, row), append(m.Test, slices.Clone(row))
	}
	quiet := make([]bool, 2000)
	for i := range quiet {
		quiet[i] = i < 900 || i >= 1500
	}
	before := make([][]float64, len(m.Test))
	for i, row := range m.Test {
		before[i] = slices.Clone(row)
	}
	ill, injected := shift(m, quiet, rng)
	if d := cmp.Diff(before, m.Test); d != "" {
		t.Fatal("the healthy member was changed: " + d)
	}
	n := 0
	for i := range injected {
		changed := 0
		for c := range ill.Test[i] {
			if by := math.Abs(ill.Test[i][c] - before[i][c]); by > 0 {
				changed++
				if want := []float64{1, 100, 0, 1, 1}[c]; math.Abs(by/want-1) > 0.1 {
					t.Fatalf("column %d shifted by %g, its deviation is %g", c, by, want)
				}
			}
		}
		switch {
		case injected[i] && (changed != shiftColumns || !quiet[i]), !injected[i] && changed != 0:
			t.Fatalf("row %d: %d columns shifted, injected %t, quiet %t", i, changed, injected[i], quiet[i])
		case injected[i]:
			n++
		}
	}
	if want := (3 + 1) * shiftRows; n != want { // 900 and 500 rows
		t.Errorf("%d rows shifted, want %d", n, want)
	}
}

// Three pods, two faults. The window of a fault is from after it to 300 s later.
func TestRankByHand(t *testing.T) {
	times := []int64{0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 1200, 1260}
	of := func(scores map[int64]float64, alarms ...int64) verdicts {
		v := verdicts{make([]float64, len(times)), make([]bool, len(times))}
		for i, at := range times {
			v.scores[i], v.alarms[i] = scores[at], slices.Contains(alarms, at)
		}
		return v
	}
	pods := []pod{{times: times}, {times: times}, {times: times}}
	for i := range pods {
		pods[i].Name = string(rune('a' + i))
	}
	faults := []fault{{60, "a"}, {60, "b"}}
	said := []verdicts{
		of(map[int64]float64{60: 9, 120: 3, 360: 4}, 60, 480, 540, 1200, 1260), // 9 is at the injection, too early
		of(map[int64]float64{180: 4, 420: 9}, 0),                               // 9 is too late
		of(map[int64]float64{300: 2}),
	}
	r := rank(pods, faults, said)
	if d := cmp.Diff([]float64{2, 2}, r.ranks); d != "" {
		t.Errorf("pods a and b are as strange: %s", d)
	}
	if d := cmp.Diff([]float64{0, 0}, r.within(1)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float64{1, 1}, r.within(3)); d != "" {
		t.Error(d)
	}
	// Away from faults are the rows from 480 on: 4 of each pod. In a, one run began at 480 and goes on until the end.
	if want := 1 / days(12, nezhaEvery); r.falseAlarms != want {
		t.Errorf("%g false alarms a pod-day, want %g", r.falseAlarms, want)
	}
}

func TestPairedAndMeans(t *testing.T) {
	results := map[string][]result{fettle: {{vus: 0.8}, {vus: 0.4}, {vus: 0.5}}}
	for _, peer := range methods()[1:] {
		results[peer] = []result{{vus: 0.5}, {vus: 0.5}, {vus: 0.5}}
	}
	c := &comparison{set{title: "X", every: time.Minute, budgets: map[string]float64{"VUS-PR": 0.6}}, results}
	r := &report.Report{}
	c.add(r)
	first, second := r.Rows[0], r.Rows[1]
	if first.Value < 0.56 || first.Value > 0.57 || first.Rounds != 3 || first.Within() != "NO" || *first.PeerValue != 0.5 {
		t.Errorf("first row %+v", first)
	}
	if second.Value != first.Value || second.Peer == first.Peer || second.Budget != nil || second.Low != nil {
		t.Errorf("second row %+v", second)
	}
	for _, row := range r.Rows {
		if row.Metric == "X: "+wonName && (row.Value != 1 || *row.PeerValue != 1 || row.Unit != "of 3") {
			t.Errorf("won: %+v", row)
		}
		if strings.HasPrefix(row.Metric, "X: gain") && (math.Abs(row.Value-0.2/3) > 1e-12 || *row.Low > 0 || *row.High < 0.06) {
			t.Errorf("gain: %+v", row)
		}
	}
}
