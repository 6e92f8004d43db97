package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Timeline is a picture of what happened: the acts one below the other, each
// with the packets into and out of the machine, the checkpoints, the kill and
// the takeover. All times of an act are on one clock of the caller's choice.
type Timeline struct {
	Title    string
	Subtitle string
	Acts     []TimelineAct
}

// TimelineAct is one act of a Timeline. What is drawn of it is the time around
// the kill, at most from before the kill until after the first packet that came
// through again: a blackout of some hundredths of a second is to be seen.
type TimelineAct struct {
	Name        string          // "Act 1: QEMU on host A is killed"
	Summary     string          // one line of results
	From, To    time.Duration   // what there is to draw
	Sent        []time.Duration // packets into the machine, in any order
	Received    []time.Duration // packets out of it
	Checkpoints []Checkpoint

	Kill      time.Duration
	KillText  string        // "host A killed"
	Running   time.Duration // the guest runs on the standby; 0 = not known
	First     time.Duration // first packet out after the kill; 0 = none came
	FirstText string        // "first packet from host B, 87 ms later"
	Dark      time.Duration // last packet before the blackout; 0 = the kill
}

// Checkpoint is one checkpoint: when it stopped the guest and for how long.
type Checkpoint struct {
	At    time.Duration
	Pause time.Duration
}

const (
	bin    = 10 * time.Millisecond // width of a bar
	before = time.Second           // drawn before the kill
	after  = 1500 * time.Millisecond

	width      = 1200.0
	left       = 110.0 // of the plots
	right      = width - 30
	headHeight = 92.0
	actHeight  = 376.0
	footHeight = 20.0

	packetRow     = 92.0
	checkpointRow = 52.0
	rowGap        = 12.0
)

// Colours: grey what goes in, green what comes out, amber what a checkpoint
// costs, red what breaks.
const (
	inColour         = "#8a94a6"
	outColour        = "#2a9d6f"
	checkpointColour = "#e0a030"
	killColour       = "#d64545"
	inkColour        = "#1f2933"
	mutedColour      = "#616e7c"
	lineColour       = "#e4e7eb"
)

// WriteSVG writes the picture.
func (t Timeline) WriteSVG(w io.Writer) error {
	c := newCanvas(width, headHeight+actHeight*float64(len(t.Acts))+footHeight)
	c.text(30, 38, 22, inkColour, "start", true, t.Title)
	c.text(30, 62, 13, mutedColour, "start", false, t.Subtitle)
	legend(c, 30, 84)
	for i, act := range t.Acts {
		act.draw(c, headHeight+actHeight*float64(i))
	}
	return c.writeTo(w)
}

func legend(c *canvas, x, y float64) {
	for _, entry := range []struct {
		colour, text string
		advance      float64
	}{
		{inColour, "packets into the machine, per 10 ms", 265},
		{outColour, "packets out of the machine, per 10 ms", 277},
		{checkpointColour, "checkpoint, height = pause", 205},
		{killColour, "kill and blackout", 0},
	} {
		c.rect(x, y-10, 11, 11, entry.colour, 1)
		c.text(x+17, y, 12, mutedColour, "start", false, entry.text)
		x += entry.advance
	}
}

// plot maps the times of an act to the canvas.
type plot struct {
	*canvas
	act *TimelineAct
}

func (p plot) x(t time.Duration) float64 {
	span := max(p.act.To-p.act.From, 1)
	return left + (right-left)*float64(t-p.act.From)/float64(span)
}

func (p plot) inside(t time.Duration) bool { return t >= p.act.From && t <= p.act.To }

// around is the act cut to what is drawn.
func (a TimelineAct) around() TimelineAct {
	from, to := a.Kill-before, max(a.Kill, a.First)+after
	if a.From < to && a.To > from { // or the kill is not in the act at all
		a.From, a.To = max(a.From, from), min(a.To, to)
	}
	return a
}

func (a TimelineAct) draw(c *canvas, top float64) {
	a = a.around()
	p := plot{c, &a}
	c.line(30, top+10, right, top+10, lineColour, 1)
	c.text(30, top+34, 16, inkColour, "start", true, a.Name)
	c.text(30, top+53, 12, mutedColour, "start", false, a.Summary)
	in := top + 88
	out := in + packetRow + rowGap
	checkpoints := out + packetRow + rowGap
	bottom := checkpoints + checkpointRow
	p.blackout(in, bottom)
	sent, received := p.histogram(a.Sent), p.histogram(a.Received)
	highest := scale(sent, received)
	p.bars(in, "in", sent, highest, inColour)
	p.bars(out, "out", received, highest, outColour)
	p.pauses(checkpoints)
	p.axis(bottom)
	p.events(in, bottom)
}

// histogram counts packets per bin of the act.
func (p plot) histogram(times []time.Duration) []int {
	counts := make([]int, max(0, min(int((p.act.To-p.act.From)/bin), 10000)))
	for _, t := range times {
		if i := int((t - p.act.From) / bin); t >= p.act.From && i < len(counts) {
			counts[i]++
		}
	}
	return counts
}

// maxCut is how many bars of an act may be higher than its rows.
const maxCut = 3

// scale is the top of the packet rows, the same for both: what all bars but a
// few keep to, so that the burst after a blackout does not flatten everything
// else. Higher bars are cut and say their count.
func scale(histograms ...[]int) int {
	var all []int
	for _, h := range histograms {
		for _, n := range h {
			if n > 0 {
				all = append(all, n)
			}
		}
	}
	if len(all) == 0 {
		return 4
	}
	slices.Sort(all)
	return max(4, all[max(0, len(all)-1-maxCut)]+1)
}

func (p plot) bars(top float64, name string, counts []int, highest int, colour string) {
	bottom := top + packetRow
	p.rowLabel(top, packetRow, name, "per 10 ms")
	for _, v := range []int{highest / 2, highest} {
		y := bottom - packetRow*float64(v)/float64(highest)
		p.line(left, y, right, y, lineColour, 1)
		p.text(left-8, y+4, 10, mutedColour, "end", false, fmt.Sprint(v))
	}
	p.line(left, bottom, right, bottom, "#cbd2d9", 1)
	step := (right - left) / float64(max(len(counts), 1))
	for i, n := range counts {
		if n == 0 {
			continue
		}
		h := packetRow * float64(min(n, highest)) / float64(highest)
		x := left + step*float64(i)
		p.rect(x, bottom-h, max(step-0.6, 0.6), h, colour, 1)
		if n > highest && peak(counts, i) {
			p.text(x+step/2+3, top+9, 10, inkColour, "start", true, fmt.Sprintf("%d", n))
		}
	}
}

// peak says that no bar near i is higher, so that cut bars' labels stay apart.
func peak(counts []int, i int) bool {
	for j := max(0, i-5); j < min(len(counts), i+6); j++ {
		if counts[j] > counts[i] || counts[j] == counts[i] && j < i {
			return false
		}
	}
	return true
}

func (p plot) rowLabel(top, height float64, name, unit string) {
	p.text(30, top+height/2, 14, inkColour, "start", true, name)
	p.text(30, top+height/2+15, 9.5, mutedColour, "start", false, unit)
}

func (p plot) pauses(top float64) {
	longest := 5 * time.Millisecond
	for _, c := range p.act.Checkpoints {
		if p.inside(c.At) {
			longest = max(longest, c.Pause)
		}
	}
	longest = time.Duration(math.Ceil(longest.Seconds()*1e3)) * time.Millisecond
	bottom := top + checkpointRow
	p.rowLabel(top, checkpointRow, "pause", "ms")
	p.line(left, top, right, top, lineColour, 1)
	p.text(left-8, top+4, 10, mutedColour, "end", false, fmt.Sprint(longest.Milliseconds()))
	p.text(left-8, bottom, 10, mutedColour, "end", false, "0")
	for _, c := range p.act.Checkpoints {
		if p.inside(c.At) {
			h := max(2, checkpointRow*float64(c.Pause)/float64(longest))
			w := max(2, p.x(c.At+c.Pause)-p.x(c.At))
			p.rect(p.x(c.At), bottom-h, w, h, checkpointColour, 1)
		}
	}
}

// axis counts from the kill.
func (p plot) axis(y float64) {
	p.line(left, y, right, y, mutedColour, 1)
	step := tick(p.act.To - p.act.From)
	first := (p.act.From - p.act.Kill).Truncate(step)
	for t := first; p.act.Kill+t <= p.act.To; t += step {
		if !p.inside(p.act.Kill + t) {
			continue
		}
		x := p.x(p.act.Kill + t)
		p.line(x, y, x, y+5, mutedColour, 1)
		label := fmt.Sprintf("%+d ms", t.Milliseconds())
		if t == 0 {
			label = "kill"
		}
		p.text(min(x, right-18), y+18, 11, mutedColour, "middle", false, label)
	}
}

// tick is a round distance that gives an axis at most a dozen labels.
func tick(span time.Duration) time.Duration {
	for unit := 10 * time.Millisecond; ; unit *= 10 {
		for _, factor := range []time.Duration{1, 2, 5} {
			if span/(unit*factor) <= 12 {
				return unit * factor
			}
		}
	}
}

func (p plot) blackout(top, bottom float64) {
	from, to := p.act.Dark, p.act.First
	if from == 0 {
		from = p.act.Kill
	}
	if to == 0 {
		to = p.act.To
	}
	from, to = max(from, p.act.From), min(to, p.act.To)
	if to > from {
		p.rect(p.x(from), top-4, p.x(to)-p.x(from), bottom-top+4, killColour, 0.13)
	}
}

// events marks the kill and, to its right, what brought the flow back.
func (p plot) events(top, bottom float64) {
	if p.inside(p.act.Kill) {
		x := p.x(p.act.Kill)
		p.line(x, top-20, x, bottom, killColour, 2)
		p.text(x-6, top-11, 13, killColour, "end", true, p.act.KillText)
	}
	if p.act.Running != 0 && p.inside(p.act.Running) {
		x := p.x(p.act.Running)
		p.dashed(x, top-4, x, bottom, mutedColour)
	}
	if p.act.First != 0 && p.inside(p.act.First) {
		x := p.x(p.act.First)
		p.line(x, top-20, x, bottom, outColour, 2)
		p.text(x+6, top-11, 13, outColour, "start", true, p.act.FirstText)
	} else {
		p.text(p.x(p.act.Kill)+6, top-11, 13, killColour, "start", true, "no packet came after the kill")
	}
}
