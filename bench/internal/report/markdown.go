package report

import (
	"fmt"
	"strconv"
	"strings"
)

// Markdown is the report as a table for documents, below a line that says when and where it was made.
func (r *Report) Markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "Measured %s at commit %s on %s, %d cores, %s, Linux %s; load of the machine %.1f to %.1f.", r.Date.Format("2006-01-02"), r.Commit, m.CPU, m.Cores, m.Memory, m.Kernel, m.LoadBefore, m.LoadAfter)
	for i, p := range r.Peers {
		fmt.Fprintf(&b, "%s%s %s", map[bool]string{true: " Beside it: ", false: ", "}[i == 0], p.Name, p.Version)
	}
	b.WriteString("\n\n| | value | 95 % interval | budget | compared with |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		unit := row.Unit
		if unit == "1" {
			unit = ""
		}
		with := func(v float64) string { return strings.TrimSpace(Digits(v) + " " + unit) }
		interval, budget, peer := "", "", ""
		if row.Low != nil && row.High != nil && row.Rounds > 1 {
			interval = Digits(*row.Low) + " to " + Digits(*row.High) + ", " + strconv.Itoa(row.Rounds) + " rounds"
		}
		if row.Budget != nil {
			budget = map[bool]string{true: "", false: "**over** "}[row.Within() == "yes"] + with(*row.Budget)
		}
		if row.PeerValue != nil {
			peer = row.Peer + ": " + with(*row.PeerValue)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", row.Metric, with(row.Value), interval, budget, peer)
	}
	return b.String()
}
