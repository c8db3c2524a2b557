package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFileHasTheDocumentedForm(t *testing.T) {
	r := New("example")
	budget, peer := 25.0, 42.5
	r.Peer("other", "1.2")
	r.Peer("other", "1.2")
	r.Add(Row{Metric: "sample", Unit: "us", Better: Lower, Peer: "other", PeerValue: &peer, Budget: &budget}.From([]float64{9, 7, 8}))
	r.Add(Row{Metric: "rate", Unit: "1/s", Better: Higher, Value: 3})
	path := filepath.Join(t.TempDir(), "example.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	back, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, back); d != "" {
		t.Errorf("read back differs: %s", d)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var raw struct {
		Commit string
		Rows   []map[string]any
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	if raw.Commit == "" || len(r.Peers) != 1 {
		t.Errorf("head: commit %q, peers %v", raw.Commit, r.Peers)
	}
	for _, row := range raw.Rows {
		for _, key := range []string{"metric", "value", "unit", "better", "peer", "peer_value"} {
			if _, ok := row[key]; !ok {
				t.Errorf("row %v has no %q", row["metric"], key)
			}
		}
	}
}

func TestTableSaysWhatIsOverBudget(t *testing.T) {
	r := &Report{Bench: "example"}
	five := 5.0
	r.Add(Row{Metric: "low enough", Value: 4, Better: Lower, Budget: &five})
	r.Add(Row{Metric: "too high", Value: 6, Better: Lower, Budget: &five})
	r.Add(Row{Metric: "high enough", Value: 6, Better: Higher, Budget: &five})
	r.Add(Row{Metric: "open", Value: 6, Better: Higher})
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for metric, want := range map[string]string{"low enough": "yes", "too high": "NO", "high enough": "yes", "open": "6"} {
		for line := range strings.Lines(b.String()) {
			if f := strings.Fields(line); strings.HasPrefix(line, metric) && f[len(f)-1] != want {
				t.Errorf("%q, want it to end with %q", line, want)
			}
		}
	}
}

func TestIntervalHoldsTheMedianAndNarrows(t *testing.T) {
	few := []float64{1, 2, 3, 4, 100}
	low, high := Interval(few)
	if m := Median(few); m != 3 || low > m || high < m {
		t.Errorf("median %g in %g to %g", m, low, high)
	}
	var many []float64
	for range 40 {
		many = append(many, few[:4]...)
	}
	l, h := Interval(many)
	if h-l >= high-low {
		t.Errorf("160 samples: %g to %g; 5 samples: %g to %g", l, h, low, high)
	}
}

func TestOverheadsCancelADrift(t *testing.T) {
	// A B B A on a machine that slows down by 1 a run, and B costs nothing.
	got := Overheads([]float64{100, 103}, []float64{101, 102})
	if m := Median(got); m < -0.05 || m > 0.05 {
		t.Errorf("overhead of nothing: %g %% from %v", m, got)
	}
}

func TestMeanSeesWhatIsRare(t *testing.T) {
	samples := []float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 10}
	if row := (Row{}).From(samples); row.Value != 0 {
		t.Errorf("median %g", row.Value)
	}
	if row := (Row{}).FromMean(samples); row.Value != 1 || *row.Low > 1 || *row.High < 1 || *row.High <= *row.Low || row.Rounds != 10 {
		t.Errorf("mean %g, in %g to %g, of %d", row.Value, *row.Low, *row.High, row.Rounds)
	}
}
