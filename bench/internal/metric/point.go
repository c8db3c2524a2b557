package metric

import (
	"math"
	"slices"
)

// AveragePrecision is the area under the precision-recall curve of single rows: the sum over thresholds of precision
// times the gain in recall, rows of one score together (Davis and Goadrich, The Relationship Between Precision-Recall and
// ROC Curves, ICML 2006, say why nothing is interpolated). NaN without a labelled row.
func AveragePrecision(scores []float64, labels []bool) float64 {
	sum, before, positives := 0.0, 0, count(labels)
	thresholds(scores, labels, func(_ float64, alarms, hits int) {
		sum += float64(hits) / float64(alarms) * float64(hits-before)
		before = hits
	})
	return sum / float64(positives)
}

// BestF1 is the highest F1 of single rows that any threshold gives, and the threshold: what an oracle that knows the
// labels would choose. NaN without a labelled row.
func BestF1(scores []float64, labels []bool) (f1, threshold float64) {
	positives := count(labels)
	if positives == 0 {
		return math.NaN(), math.NaN()
	}
	threshold = math.Inf(1)
	thresholds(scores, labels, func(u float64, alarms, hits int) {
		if f := 2 * float64(hits) / float64(alarms+positives); f > f1 {
			f1, threshold = f, u
		}
	})
	return f1, threshold
}

// Outcome is what alarms were worth.
type Outcome struct {
	Precision float64 // of single rows; NaN without an alarm
	Recall    float64 // of single rows; NaN without a labelled row
	F1        float64 // of single rows; NaN without a labelled row
	Segments  int     // labelled
	Delays    []int   // rows from the beginning of a labelled segment to the first alarm in it, of those that had one
	False     int     // alarm runs that began in rows without label
	Normal    int     // rows without label
	Alarmed   int     // of them in alarm
}

// Alarms compares the rows in alarm with the labelled ones. An alarm that begins before a labelled segment and reaches
// into it is both: false, since it began in normal time, and a detection without delay. One that never ends is a single
// false alarm, so that [Outcome.False] is to be read beside [Outcome.NormalShare].
func Alarms(alarm, labels []bool) Outcome {
	var o Outcome
	hits := 0
	for i := range alarm {
		switch {
		case labels[i] && alarm[i]:
			hits++
		case labels[i]:
		case alarm[i]:
			o.Alarmed++
			if i == 0 || !alarm[i-1] {
				o.False++
			}
			fallthrough
		default:
			o.Normal++
		}
	}
	for _, s := range Segments(labels) {
		o.Segments++
		if at := slices.Index(alarm[s.First:s.Last+1], true); at >= 0 {
			o.Delays = append(o.Delays, at)
		}
	}
	positives := float64(len(alarm) - o.Normal)
	o.Precision = float64(hits) / float64(hits+o.Alarmed)
	o.Recall = float64(hits) / positives
	o.F1 = 2 * float64(hits) / (float64(hits+o.Alarmed) + positives)
	if positives == 0 {
		o.F1 = math.NaN()
	}
	return o
}

// Found is the share of labelled segments in which there was an alarm.
func (o Outcome) Found() float64 { return float64(len(o.Delays)) / float64(o.Segments) }

// NormalShare is the share of the rows without label that were in alarm.
func (o Outcome) NormalShare() float64 { return float64(o.Alarmed) / float64(o.Normal) }

// Delay is the median delay in rows of the segments that were found, NaN where there are none.
func (o Outcome) Delay() float64 {
	d := slices.Sorted(slices.Values(o.Delays))
	if len(d) == 0 {
		return math.NaN()
	}
	return float64(d[len(d)/2]+d[(len(d)-1)/2]) / 2
}
