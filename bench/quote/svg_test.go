package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

func TestPicture(t *testing.T) {
	five := 5.0
	r := &report.Report{Rows: []report.Row{
		{Metric: "base sample", Value: 9},
		{Metric: "10 instances at 1 Hz: /proc", Value: 0.1},
		{Metric: "1000 instances at 1 Hz: /proc", Value: 1.5},
		{Metric: "10 instances at 1 Hz: /proc, <all>", Value: 0.2},
		{Metric: "1000 instances at 1 Hz: /proc, <all>", Value: 3, Budget: &five},
	}}
	p := sampling(r)
	if len(p.series) != 2 || len(p.series[0].points) != 2 || p.limit != 5 {
		t.Fatalf("series %v, limit %g", p.series, p.limit)
	}
	text, lines := "", 0
	for d := xml.NewDecoder(strings.NewReader(p.svg())); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		switch tok := tok.(type) {
		case xml.CharData:
			text += string(tok)
		case xml.StartElement:
			if tok.Name.Local == "polyline" {
				lines++
			}
		}
	}
	if lines != 2 || !strings.Contains(text, "/proc, <all>") || !strings.Contains(text, "budget of 1000 instances: 5 %") {
		t.Errorf("%d lines and the text %q", lines, text)
	}
	x, y := p.axes()
	if x.at(10) != left || x.at(1000) != right || y.at(0.1) != bottom || y.at(10) != top {
		t.Errorf("the axes are %v and %v", x, y)
	}
}
