package main

import (
	"math"
	"time"

	"github.com/fettle-dev/fettle/bench/internal/metric"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/yardstick"
	"github.com/fettle-dev/fettle/internal/score"
)

// rate is the stated one: tolerated alarm runs per instance-day.
const rate = 1

// fettle is the name of the method that the others are compared with.
const fettle = "Fettle"

// verdicts is what a method says of the test rows of one machine.
type verdicts struct {
	scores []float64
	alarms []bool
}

// fromRows takes them from Fettle's own.
func fromRows(rows []score.Row) verdicts {
	v := verdicts{make([]float64, len(rows)), make([]bool, len(rows))}
	for i, r := range rows {
		v.scores[i], v.alarms[i] = r.Score, r.Alarm
	}
	return v
}

// fit trains a yardstick on train and lets it judge test, with a threshold by the same rule as Fettle's: the stated rate
// of alarm runs in train.
func fit(m yardstick.Method, train, test [][]float64, every time.Duration) (verdicts, error) {
	if m.Fit == nil {
		return follow(m, train, test, every)
	}
	model, err := m.Fit(train)
	if err != nil {
		return verdicts{}, err
	}
	u := yardstick.Threshold(scored(model, train), m.Release, rate*days(len(train), every))
	scores := scored(model, test)
	return verdicts{scores, yardstick.Alarms(scores, u, m.Release)}, nil
}

// follow is fit of a yardstick that reads rows in their order. It ranks by one score and alarms by another.
func follow(m yardstick.Method, train, test [][]float64, every time.Duration) (verdicts, error) {
	s, before, err := yardstick.NewStreams(train, every, m.Without)
	if err != nil {
		return verdicts{}, err
	}
	v, alarms := verdicts{scores: make([]float64, len(test))}, make([]float64, len(test))
	for i, row := range test {
		v.scores[i], alarms[i] = s.Next(row)
	}
	u := yardstick.Threshold(before, m.Release, max(m.Runs, 1)*rate*days(len(before), every))
	v.alarms = yardstick.Alarms(alarms, u, m.Release)
	return v, nil
}

func scored(m yardstick.Model, rows [][]float64) []float64 {
	out := make([]float64, len(rows))
	for i, row := range rows {
		out[i] = m.Score(row)
	}
	return out
}

func days(rows int, every time.Duration) float64 {
	return float64(rows) * every.Hours() / 24
}

// result is what one method reached on one machine.
type result struct {
	vus, first, precision, best float64 // VUS-PR, as first published, AUC-PR, F1 of the best threshold
	out                         metric.Outcome
	days                        float64 // without label
}

func measure(v verdicts, m *machine, every time.Duration) result {
	r := result{
		vus: metric.VUSPR(v.scores, m.labels, m.buffer), first: metric.FirstVUSPR(v.scores, m.labels, m.buffer),
		precision: metric.AveragePrecision(v.scores, m.labels), out: metric.Alarms(v.alarms, m.labels),
	}
	r.best, _ = metric.BestF1(v.scores, m.labels)
	r.days = days(r.out.Normal, every)
	return r
}

// measured is one of the numbers that are reported of each machine.
type measured struct {
	name, unit string
	better     report.Better
	of         func(*result) float64 // NaN where there is none
}

var all = []measured{
	{"VUS-PR", "1", report.Higher, func(r *result) float64 { return r.vus }},
	{"VUS-PR as first published", "1", report.Higher, func(r *result) float64 { return r.first }},
	{"AUC-PR", "1", report.Higher, func(r *result) float64 { return r.precision }},
	{"best F1 (oracle threshold)", "1", report.Higher, func(r *result) float64 { return r.best }},
	{"F1, own threshold", "1", report.Higher, func(r *result) float64 { return r.out.F1 }},
	{"F1, own threshold / oracle", "1", report.Higher, func(r *result) float64 { return r.out.F1 / r.best }},
	{"segment recall", "1", report.Higher, func(r *result) float64 { return r.out.Found() }},
	{"median delay", "rows", report.Lower, func(r *result) float64 { return r.out.Delay() }},
	{"false alarms per instance-day", "1", report.Lower, func(r *result) float64 { return float64(r.out.False) / r.days }},
	{"normal time in alarm", "1", report.Lower, func(r *result) float64 { return r.out.NormalShare() }},
}

// each value of the machines, without those that have none.
func (m *measured) values(results []result) []float64 {
	var out []float64
	for i := range results {
		if v := m.of(&results[i]); !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	return out
}

// together is the median delay of all segments of all machines that were found.
func together(results []result) float64 {
	var o metric.Outcome
	for _, r := range results {
		o.Delays = append(o.Delays, r.out.Delays...)
	}
	return o.Delay()
}
