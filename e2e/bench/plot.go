package main

import (
	"bytes"
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
)

// Size of a plot and of its margins, in pixels.
const (
	width, height            = 720.0, 400.0
	left, right, top, bottom = 64.0, 16.0, 44.0, 44.0
)

// series is one line of a plot.
type series struct {
	name, colour string
	dash         string
	points       []point
}

type point struct{ x, y float64 }

// pausePlot draws the pauses by dirty pages, for the smallest RAM; both axes are
// logarithmic.
func (r *results) pausePlot() []byte {
	memory := r.Cells[0].Memory
	var all []series
	for _, s := range []struct {
		name, colour string
		of           func(*cell) [][]pause
	}{
		{"floor", "#888888", func(c *cell) [][]pause { return c.Floor }},
		{"Stillpoint", "#0b6fb8", func(c *cell) [][]pause { return c.Pair }},
		{"stock COLO", "#c2410c", func(c *cell) [][]pause { return c.Stock }},
	} {
		for _, q := range []struct {
			name, dash string
			q          float64
		}{{"median", "", 0.5}, {"p95", "5 4", 0.95}} {
			line := series{name: s.name + ", " + q.name, colour: s.colour, dash: q.dash}
			for _, c := range r.Cells {
				if c.Memory == memory {
					line.points = append(line.points, point{float64(max(c.Rate, 1)), over(s.of(c), stopped).at(q.q)})
				}
			}
			all = append(all, line)
		}
	}
	return plot("Pause in ms by pages that the guest rewrites, "+memory, all)
}

// plot draws lines on logarithmic axes.
func plot(title string, all []series) []byte {
	x, y := axis{left, width - right, math.Inf(1), math.Inf(-1)}, axis{height - bottom, top, math.Inf(1), math.Inf(-1)}
	for _, s := range all {
		for _, p := range s.points {
			if p.x > 0 && p.y > 0 {
				x, y = x.including(p.x), y.including(p.y)
			}
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#ffffff"/>`+"\n"+`<text x="%.0f" y="20" font-size="14" font-weight="bold">%s</text>`+"\n", width, height, left, title)
	for _, tick := range y.ticks() {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e2e2e2"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y.at(tick), width-right, y.at(tick), left-8, y.at(tick)+4, humanize.Ftoa(tick))
	}
	for _, tick := range x.ticks() {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e2e2e2"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n",
			x.at(tick), top, x.at(tick), height-bottom, x.at(tick), height-bottom+18, humanize.Comma(int64(tick)))
	}
	for i, s := range all {
		s.draw(&b, x, y, top+16+float64(i)*16)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (s series) draw(b *bytes.Buffer, x, y axis, legend float64) {
	style := fmt.Sprintf(`stroke="%s" stroke-width="2" fill="none"`, s.colour)
	if s.dash != "" {
		style += fmt.Sprintf(` stroke-dasharray="%s"`, s.dash)
	}
	fmt.Fprintf(b, `<polyline %s points="`, style)
	for _, p := range s.points {
		if p.x > 0 && p.y > 0 {
			fmt.Fprintf(b, "%.1f,%.1f ", x.at(p.x), y.at(p.y))
		}
	}
	fmt.Fprintf(b, `"/>`+"\n"+`<line x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f" %s/><text x="%.0f" y="%.1f">%s</text>`+"\n",
		left+12, legend-4, left+44, legend-4, style, left+52, legend, s.name)
}

// axis is logarithmic, from one place on the picture to another.
type axis struct{ from, to, least, most float64 }

func (a axis) including(v float64) axis {
	a.least, a.most = math.Min(a.least, v), math.Max(a.most, v)
	return a
}

func (a axis) at(v float64) float64 {
	if a.most <= a.least {
		return (a.from + a.to) / 2
	}
	return a.from + (a.to-a.from)*math.Log(v/a.least)/math.Log(a.most/a.least)
}

// ticks are 1, 2 and 5 of each power of ten within the axis.
func (a axis) ticks() (all []float64) {
	for power := math.Pow(10, math.Floor(math.Log10(a.least))); power <= a.most; power *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * power; v >= a.least && v <= a.most {
				all = append(all, v)
			}
		}
	}
	return all
}
