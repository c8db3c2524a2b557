package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/svg"
)

// plot is lines over two logarithmic axes.
type plot struct {
	title, below string
	x, y         string // names of the axes
	limit        float64
	limitName    string
	series       []series
}

type series struct {
	name   string
	points [][2]float64
}

// sampling takes the rows "N instances at 1 Hz: SOURCES".
func sampling(r *report.Report) *plot {
	p := &plot{
		title: "CPU of sampling once a second", x: "instances", y: "% of one core",
		below: fmt.Sprintf("%s, %s, Linux %s, %s", r.Commit, r.Machine.CPU, r.Machine.Kernel, r.Date.Format("2006-01-02")),
	}
	for _, row := range r.Rows {
		head, name, ok := strings.Cut(row.Metric, " instances at 1 Hz: ")
		var n float64
		if _, err := fmt.Sscan(head, &n); !ok || err != nil || row.Value <= 0 {
			continue
		}
		if row.Budget != nil {
			p.limit, p.limitName = *row.Budget, fmt.Sprintf("budget of %s instances", head)
		}
		i := len(p.series) - 1
		if i < 0 || p.series[i].name != name {
			p.series = append(p.series, series{name: name})
			i++
		}
		p.series[i].points = append(p.series[i].points, [2]float64{n, row.Value})
	}
	return p
}

// The picture's size and the place of the axes in it.
const (
	width, height            = 640, 400
	left, right, top, bottom = 70.0, 610.0, 50.0, 330.0
)

// svg draws it.
func (p *plot) svg() string {
	x, y := p.axes()
	c := svg.New(width, height, left, p.title)
	for _, v := range x.decades() {
		c.Line(x.at(v), top, x.at(v), bottom, `stroke="#ddd"`)
		c.Text(x.at(v), bottom+18, "middle", fmt.Sprintf("%g", v))
	}
	for _, v := range y.decades() {
		c.Line(left, y.at(v), right, y.at(v), `stroke="#ddd"`)
		c.Text(left-8, y.at(v)+4, "end", fmt.Sprintf("%g", v))
	}
	c.Text((left+right)/2, bottom+36, "middle", p.x)
	c.Upwards(20, top, bottom, p.y)
	if p.limit > 0 {
		c.Line(left, y.at(p.limit), right, y.at(p.limit), `stroke="#222" stroke-dasharray="6 4"`)
		c.Text(right, y.at(p.limit)-6, "end", fmt.Sprintf("%s: %g %%", p.limitName, p.limit))
	}
	for i, s := range p.series {
		colour := svg.Colours[i%len(svg.Colours)]
		var points [][2]float64
		for _, at := range s.points {
			points = append(points, [2]float64{x.at(at[0]), y.at(at[1])})
			c.Say(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s</title></circle>`, x.at(at[0]), y.at(at[1]), colour, html.EscapeString(fmt.Sprintf("%g instances: %s %%", at[0], report.Digits(at[1]))))
		}
		c.Polyline(points, fmt.Sprintf(`stroke="%s" stroke-width="2"`, colour))
		c.Line(left+12, top+14+18*float64(i), left+36, top+14+18*float64(i), fmt.Sprintf(`stroke="%s" stroke-width="2"`, colour))
		c.Text(left+42, top+18+18*float64(i), "start", s.name)
	}
	c.Small(left, height-10, p.below)
	return c.String()
}

// axis maps values to places, by their logarithm.
type axis struct {
	low, high float64 // powers of ten
	from, to  float64
}

func (a axis) at(v float64) float64 {
	return a.from + (math.Log10(v)-a.low)/(a.high-a.low)*(a.to-a.from)
}

func (a axis) decades() (out []float64) {
	for e := a.low; e <= a.high; e++ {
		out = append(out, math.Pow(10, e))
	}
	return out
}

// axes reach over whole decades.
func (p *plot) axes() (x, y axis) {
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	see := func(i int, v float64) {
		low[i], high[i] = min(low[i], math.Floor(math.Log10(v))), max(high[i], math.Ceil(math.Log10(v)))
	}
	for _, s := range p.series {
		for _, at := range s.points {
			see(0, at[0])
			see(1, at[1])
		}
	}
	if p.limit > 0 {
		see(1, p.limit)
	}
	for i := range high {
		high[i] = max(high[i], low[i]+1)
	}
	return axis{low[0], high[0], left, right}, axis{low[1], high[1], bottom, top}
}
