package main

import (
	"fmt"
	"html"
	"math"
	"strings"

	"github.com/fettle-dev/fettle/bench/internal/report"
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

var colours = []string{"#4477aa", "#228833", "#cc6677", "#ccbb44"} // told apart by those who see colours otherwise too (Tol)

// svg draws it.
func (p *plot) svg() string {
	x, y := p.axes()
	var b strings.Builder
	say := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	text := func(x, y float64, anchor, s string) {
		say(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(s))
	}
	line := func(x1, y1, x2, y2 float64, style string) {
		say(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`, x1, y1, x2, y2, style)
	}
	say(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#222">`, width, height)
	say(`<rect width="%d" height="%d" fill="#fff"/>`, width, height)
	say(`<text x="%.1f" y="24" font-size="15" font-weight="bold">%s</text>`, left, html.EscapeString(p.title))
	for _, v := range x.decades() {
		line(x.at(v), top, x.at(v), bottom, `stroke="#ddd"`)
		text(x.at(v), bottom+18, "middle", fmt.Sprintf("%g", v))
	}
	for _, v := range y.decades() {
		line(left, y.at(v), right, y.at(v), `stroke="#ddd"`)
		text(left-8, y.at(v)+4, "end", fmt.Sprintf("%g", v))
	}
	text((left+right)/2, bottom+36, "middle", p.x)
	say(`<text transform="translate(20 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, (top+bottom)/2, html.EscapeString(p.y))
	if p.limit > 0 {
		line(left, y.at(p.limit), right, y.at(p.limit), `stroke="#222" stroke-dasharray="6 4"`)
		text(right, y.at(p.limit)-6, "end", fmt.Sprintf("%s: %g %%", p.limitName, p.limit))
	}
	for i, s := range p.series {
		colour := colours[i%len(colours)]
		var points []string
		for _, at := range s.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x.at(at[0]), y.at(at[1])))
			say(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s</title></circle>`, x.at(at[0]), y.at(at[1]), colour, html.EscapeString(fmt.Sprintf("%g instances: %s %%", at[0], report.Digits(at[1]))))
		}
		say(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(points, " "), colour)
		line(left+12, top+14+18*float64(i), left+36, top+14+18*float64(i), fmt.Sprintf(`stroke="%s" stroke-width="2"`, colour))
		text(left+42, top+18+18*float64(i), "start", s.name)
	}
	say(`<text x="%.1f" y="%d" font-size="10" fill="#666">%s</text>`, left, height-10, html.EscapeString(p.below))
	say(`</svg>`)
	return b.String()
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
