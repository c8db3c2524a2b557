// Package report is what all benchmarks write: a table for a reader, and a JSON file that README and docs quote.
//
// The file has the benchmark's name, the commit, the date, the machine, and the versions of the programs that were
// measured beside at its head, then rows of {"metric", "value", "unit", "better", "peer", "peer_value"}. A row may also
// tell the interval that the value lies in ("low", "high": 95 % of bootstrap resamples), how many rounds it is the
// median of ("rounds"), and the most (or, where higher is better, the least) that it should be ("budget").
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Better says which way a value improves.
type Better string

// The ways.
const (
	Lower  Better = "lower"
	Higher Better = "higher"
)

// Report is the result of one benchmark.
type Report struct {
	Bench   string    `json:"bench"`
	Commit  string    `json:"commit"`
	Date    time.Time `json:"date"`
	Machine Machine   `json:"machine"`
	Peers   []Version `json:"peers,omitempty"`
	// Notes say what a reader must know to judge the rows: what was pinned where, what was not available.
	Notes []string `json:"notes,omitempty"`
	Rows  []Row    `json:"rows"`
}

// Version is that of a program measured beside or measured with.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Row is one measured value. Peer is the program that was measured in the same run for comparison, "" if there is none.
type Row struct {
	Metric    string   `json:"metric"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit"`
	Better    Better   `json:"better"`
	Peer      string   `json:"peer"`
	PeerValue *float64 `json:"peer_value"`
	Low       *float64 `json:"low,omitempty"`
	High      *float64 `json:"high,omitempty"`
	Rounds    int      `json:"rounds,omitempty"`
	Budget    *float64 `json:"budget,omitempty"`
}

// Within tells whether the value is within its budget, "" where it has none.
func (r Row) Within() string {
	switch {
	case r.Budget == nil:
		return ""
	case r.Better == Lower && r.Value <= *r.Budget, r.Better == Higher && r.Value >= *r.Budget:
		return "yes"
	default:
		return "NO"
	}
}

// From sets value, interval and rounds from samples: their median.
func (r Row) From(samples []float64) Row {
	low, high := Interval(samples)
	r.Value, r.Low, r.High, r.Rounds = Median(samples), &low, &high, len(samples)
	return r
}

// FromMean sets them from samples of what comes in few large portions, which a median does not see: their mean.
func (r Row) FromMean(samples []float64) Row {
	low, high := interval(samples, Mean)
	r.Value, r.Low, r.High, r.Rounds = Mean(samples), &low, &high, len(samples)
	return r
}

// Add appends a row.
func (r *Report) Add(row Row) { r.Rows = append(r.Rows, row) }

// Note appends a note.
func (r *Report) Note(format string, a ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, a...)) }

// Peer notes the version of a program, once.
func (r *Report) Peer(name, version string) {
	for _, p := range r.Peers {
		if p.Name == name {
			return
		}
	}
	r.Peers = append(r.Peers, Version{name, version})
}

// Print writes the table.
func (r *Report) Print(out io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s at %s, %s\n%s, %d cores, %s, Linux %s, %s\n", r.Bench, r.Commit, r.Date.Format(time.DateTime+" MST"), m.CPU, m.Cores, m.Memory, m.Kernel, m.Go)
	fmt.Fprintf(&b, "load of the machine: %.2f before, %.2f after\n", m.LoadBefore, m.LoadAfter)
	for _, p := range r.Peers {
		fmt.Fprintf(&b, "beside it: %s %s\n", p.Name, p.Version)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "METRIC\tVALUE\tUNIT\t95 % INTERVAL\tBUDGET\tWITHIN\tPEER")
	for _, row := range r.Rows {
		interval, budget, peer := "", "", row.Peer
		if row.Low != nil && row.High != nil && row.Rounds > 1 {
			interval = Digits(*row.Low) + " to " + Digits(*row.High) + " (" + strconv.Itoa(row.Rounds) + ")"
		}
		if row.Budget != nil {
			budget = Digits(*row.Budget)
		}
		if row.PeerValue != nil {
			peer += " " + Digits(*row.PeerValue)
		}
		fmt.Fprintln(w, strings.Join([]string{row.Metric, Digits(row.Value), row.Unit, interval, budget, row.Within(), peer}, "\t"))
	}
	_ = w.Flush() // into b
	_, err := io.WriteString(out, b.String())
	return err
}

// Digits writes a number with three digits that matter.
func Digits(v float64) string {
	if v >= 1000 || v <= -1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// Write writes the file, whole or not at all.
func (r *Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // results are for all to see
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone once it was renamed
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Read reads a file that Write wrote.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read report %s: %w", path, err)
	}
	return r, nil
}

// Say tells progress on the error output, with the time of day. Output is for tables.
func Say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, a...))
}
