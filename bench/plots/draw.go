package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/bench/internal/report"
	"github.com/fettle-dev/fettle/bench/internal/svg"
)

// The picture: two panels of lines above a strip for each member and the pool, over one axis of time.
const (
	width, height = 760, 590
	left, right   = 80.0, 735.0
	strip         = 18.0 // with the gap to the next
	strips        = 375.0
	strokes       = 3   // rows a point: there are hardly more pixels
	letters       = 110 // in a line of what was told
)

// panel is the place of lines; values from low to high.
type panel struct {
	top, bottom, low, high float64
}

func (p *panel) y(v float64) float64 {
	return p.bottom - (min(max(v, p.low), p.high)-p.low)/(p.high-p.low)*(p.bottom-p.top)
}

func x(row int) float64 { return left + float64(row)/rows*(right-left) }

// highestScore is where the axis of scores ends.
const highestScore = 3

// draw gives the picture.
func (s *story) draw() string {
	c := svg.New(width, height, left, s.title)
	response := panel{top: 60, bottom: 190, low: 0, high: s.highest()}
	scores := panel{top: 215, bottom: 345, low: 0, high: highestScore}
	end := strips + strip*(members+1)
	c.Say(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#f4f0e6"/>`, x(s.from), response.top-16, x(s.until)-x(s.from), end-response.top+16)
	c.Text(right-4, response.top-4, "end", s.what)
	for minute := 0; minute <= rows/60; minute += 5 {
		c.Line(x(60*minute), response.top, x(60*minute), end, `stroke="#ddd"`)
		c.Text(x(60*minute), end+16, "middle", strconv.Itoa(minute))
	}
	c.Text((left+right)/2, end+34, "middle", "minutes")
	c.Upwards(20, response.top, response.bottom, s.shows)
	c.Upwards(36, response.top, response.bottom, s.unit)
	c.Upwards(20, scores.top, scores.bottom, "score")
	for _, p := range []panel{response, scores} {
		for k := range 4 {
			v := p.low + float64(k)*(p.high-p.low)/3
			c.Line(left, p.y(v), right, p.y(v), `stroke="#ddd"`)
			text := report.Digits(v)
			if v == highestScore && p == scores {
				text = "≥ " + text
			}
			c.Text(left-8, p.y(v)+4, "end", text)
		}
	}
	c.Line(left, scores.y(1), right, scores.y(1), `stroke="#222" stroke-dasharray="6 4"`)
	c.Text(left+4, scores.y(1)-5, "start", "threshold")
	for i := range members {
		style := fmt.Sprintf(`stroke="%s" stroke-width="1.2" stroke-linejoin="round"`, svg.Colours[i])
		line(c, &response, s.shown[i], style)
		line(c, &scores, s.scores[i], style)
	}
	line(c, &scores, s.scores[members], `stroke="#222" stroke-width="1.6" stroke-linejoin="round"`)
	for who := range members + 1 {
		s.band(c, who, strips+strip*float64(who))
	}
	legend(c, end+50)
	for i, text := range lines(s.foremost()) {
		c.Small(left, int(end)+84+13*i, text)
	}
	return c.String()
}

// highest is where the axis of the response ends: a number of few digits.
func (s *story) highest() float64 {
	top := 0.0
	for i := range members {
		for _, v := range s.shown[i] {
			if v > top {
				top = v
			}
		}
	}
	unit := math.Pow(10, math.Floor(math.Log10(top)))
	for _, k := range []float64{1.2, 1.5, 1.8, 2.4, 3, 4.5, 6, 9} {
		if k*unit >= top {
			return k * unit
		}
	}
	return 12 * unit
}

// line draws what is there, with gaps where nothing is. Of rows that share a point it shows the highest.
func line(c *svg.Canvas, p *panel, values []float64, style string) {
	var points [][2]float64
	flush := func() {
		if len(points) > 1 {
			c.Polyline(points, style)
		}
		points = nil
	}
	for row := 0; row < len(values); row += strokes {
		v := math.NaN()
		for _, o := range values[row:min(row+strokes, len(values))] {
			if o == o && !(v > o) {
				v = o
			}
		}
		if v != v {
			flush()
			continue
		}
		points = append(points, [2]float64{x(row), p.y(v)})
	}
	flush()
}

// shades of the levels from Low on, by cause.
var shades = map[ft.Cause][4]string{
	ft.InstanceChanged:   {"#f6c6c0", "#ec8f84", "#d84a3c", "#9c1f14"},
	ft.WorkloadChanged:   {"#c6dcf2", "#8fb8e2", "#4a8bcf", "#1d5a9b"},
	ft.DependencyChanged: {"#e2cdec", "#c39bd6", "#9a5cb8", "#66307f"},
	ft.CauseUnknown:      {"#dddddd", "#bbbbbb", "#888888", "#555555"},
}

// levels that have a shade.
var levels = [4]ft.Level{ft.Low, ft.Medium, ft.High, ft.Critical}

func shade(v *ft.Verdict) string {
	switch {
	case v.Level == ft.Learning:
		return "#fff"
	case v.Level < ft.Low:
		return "#e3efe0"
	default:
		return shades[v.Cause][v.Level-ft.Low]
	}
}

// band draws the verdicts on one as a strip.
func (s *story) band(c *svg.Canvas, who int, top float64) {
	at := s.bands[who]
	c.Text(left-8, top+12, "end", nameOf(who))
	for from := 0; from < len(at); {
		until := from + 1
		for until < len(at) && shade(&at[until]) == shade(&at[from]) {
			until++
		}
		v := &at[from]
		said := v.Level.String()
		if v.Level >= ft.Low {
			said += ", " + v.Cause.String()
		}
		c.Say(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`,
			x(from), top, x(until)-x(from), strip-4, shade(v), html.EscapeString(said))
		from = until
	}
	colour := "#222"
	if who < members {
		colour = svg.Colours[who]
	}
	c.Line(left-4, top, left-4, top+strip-4, fmt.Sprintf(`stroke="%s" stroke-width="4"`, colour))
}

// legend tells the shades.
func legend(c *svg.Canvas, top float64) {
	at := 24.0
	box := func(fill string) {
		c.Say(`<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s" stroke="#ccc" stroke-width="0.5"/>`, at, top, fill)
		at += 14
	}
	say := func(text string, wide float64) {
		c.Text(at+2, top+11, "start", text)
		at += wide
	}
	box(shade(&ft.Verdict{}))
	say("learning", 62)
	box(shade(&ft.Verdict{Level: ft.Steady}))
	say("steady", 54)
	say("low to critical:", 98)
	for _, cause := range []ft.Cause{ft.InstanceChanged, ft.WorkloadChanged, ft.CauseUnknown} {
		for _, l := range levels {
			box(shade(&ft.Verdict{Level: l, Cause: cause}))
		}
		say(cause.String(), 114)
	}
}

// foremost is the last sentence of the highest level that was told.
func (s *story) foremost() string {
	best := sentence{text: "no verdict from low on"}
	for _, t := range s.told {
		if t.level >= best.level {
			best = t
		}
	}
	if best.level == 0 {
		return best.text
	}
	return fmt.Sprintf("minute %.1f: %s", best.minute, best.text)
}

// lines breaks text between words.
func lines(text string) (out []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > letters {
			out, line = append(out, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(out, line)
}
