package main

import (
	"slices"
	"time"
)

// line is y = at + slope x.
type line struct{ at, slope float64 }

// fit is the line of the least squares through points. One point, or points of
// one x, give a level line.
func fit(xs, ys []float64) line {
	if len(xs) == 0 {
		return line{}
	}
	n := float64(len(xs))
	var meanX, meanY, square, product float64
	for i := range xs {
		meanX += xs[i] / n
		meanY += ys[i] / n
	}
	for i := range xs {
		square += (xs[i] - meanX) * (xs[i] - meanX)
		product += (xs[i] - meanX) * (ys[i] - meanY)
	}
	if square == 0 {
		return line{at: meanY}
	}
	slope := product / square
	return line{meanY - slope*meanX, slope}
}

func (l line) y(x float64) float64 { return l.at + l.slope*x }

// jain is Jain's index of fairness: 1 if all shares are equal, 1/n if one has
// everything.
func jain(shares []float64) float64 {
	var sum, squares float64
	for _, s := range shares {
		sum += s
		squares += s * s
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// span is when something was under way.
type span struct{ from, to time.Time }

// overlap says how many spans were under way at once: at most, on average over
// the time from the first beginning to the last end, and on average when one
// began, itself included.
type overlap struct {
	most      int
	mean, met float64
}

func overlapOf(spans []span) (o overlap) {
	type edge struct {
		at    time.Time
		delta int
	}
	var edges []edge
	var total time.Duration
	for _, s := range spans {
		edges = append(edges, edge{s.from, 1}, edge{s.to, -1})
		total += s.to.Sub(s.from)
	}
	if len(edges) == 0 {
		return o
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	now := 0
	for _, e := range edges {
		if now += e.delta; e.delta > 0 {
			o.met += float64(now) / float64(len(spans))
		}
		o.most = max(o.most, now)
	}
	o.mean = float64(o.most)
	if whole := edges[len(edges)-1].at.Sub(edges[0].at); whole > 0 {
		o.mean = float64(total) / float64(whole)
	}
	return o
}
