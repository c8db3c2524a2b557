// Package svg writes pictures for documents, with fixed digits: the same numbers give the same file.
package svg

import (
	"fmt"
	"html"
	"strings"
)

// Colours are told apart by those who see colours otherwise, too (Paul Tol's bright scheme).
var Colours = []string{"#4477aa", "#228833", "#cc6677", "#ccbb44"}

// Canvas is a picture under way. Places are in pixels from the upper left corner.
type Canvas struct{ b strings.Builder }

// New begins a picture on white, with its title at left.
func New(width, height int, left float64, title string) *Canvas {
	c := &Canvas{}
	c.Say(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#222">`, width, height)
	c.Say(`<rect width="%d" height="%d" fill="#fff"/>`, width, height)
	c.Say(`<text x="%.1f" y="24" font-size="15" font-weight="bold">%s</text>`, left, html.EscapeString(title))
	return c
}

// Say writes a line of SVG as it is.
func (c *Canvas) Say(format string, a ...any) { fmt.Fprintf(&c.b, format+"\n", a...) }

// Text writes text whose anchor ("start", "middle", "end") is at x; y is that of its foot.
func (c *Canvas) Text(x, y float64, anchor, text string) {
	c.Say(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(text))
}

// Small writes text that is less than the others.
func (c *Canvas) Small(x float64, y int, text string) {
	c.Say(`<text x="%.1f" y="%d" font-size="10" fill="#666">%s</text>`, x, y, html.EscapeString(text))
}

// Upwards writes text that stands on end, in the middle between two heights.
func (c *Canvas) Upwards(x, from, to float64, text string) {
	c.Say(`<text transform="translate(%.0f %.1f) rotate(-90)" text-anchor="middle">%s</text>`, x, (from+to)/2, html.EscapeString(text))
}

// Line draws one; style is its attributes.
func (c *Canvas) Line(x1, y1, x2, y2 float64, style string) {
	c.Say(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`, x1, y1, x2, y2, style)
}

// Polyline draws a line through points.
func (c *Canvas) Polyline(points [][2]float64, style string) {
	at := make([]string, len(points))
	for i, p := range points {
		at[i] = fmt.Sprintf("%.1f,%.1f", p[0], p[1])
	}
	c.Say(`<polyline points="%s" fill="none" %s/>`, strings.Join(at, " "), style)
}

// String ends the picture.
func (c *Canvas) String() string { return c.b.String() + "</svg>\n" }
