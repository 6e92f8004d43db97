package report

import (
	"bytes"
	"fmt"
	"html"
	"io"
)

// canvas collects the elements of an SVG picture.
type canvas struct {
	bytes.Buffer
}

func newCanvas(width, height float64) *canvas {
	c := &canvas{}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif">`+"\n",
		width, height, width, height)
	c.rect(0, 0, width, height, "#ffffff", 1)
	return c
}

func (c *canvas) rect(x, y, w, h float64, colour string, opacity float64) {
	fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"`, x, y, w, h, colour)
	if opacity < 1 {
		fmt.Fprintf(c, ` fill-opacity="%.2f"`, opacity)
	}
	c.WriteString("/>\n")
}

func (c *canvas) line(x1, y1, x2, y2 float64, colour string, width float64) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.1f"/>`+"\n", x1, y1, x2, y2, colour, width)
}

func (c *canvas) dashed(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="3 3"/>`+"\n", x1, y1, x2, y2, colour)
}

// text writes a line of text; anchor is start, middle or end.
func (c *canvas) text(x, y, size float64, colour, anchor string, bold bool, s string) {
	weight := ""
	if bold {
		weight = ` font-weight="bold"`
	}
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" font-size="%.1f" fill="%s" text-anchor="%s"%s>%s</text>`+"\n",
		x, y, size, colour, anchor, weight, html.EscapeString(s))
}

func (c *canvas) writeTo(w io.Writer) error {
	c.WriteString("</svg>\n")
	if _, err := w.Write(c.Bytes()); err != nil {
		return fmt.Errorf("write the timeline: %w", err)
	}
	return nil
}
