package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// rounds of values: what one thing gave in each round.
type rounds [][]float64

// over picks one duration of each checkpoint, in milliseconds.
func over(p [][]pause, which func(pause) time.Duration) (r rounds) {
	for _, round := range p {
		var v []float64
		for _, x := range round {
			v = append(v, milliseconds(which(x)))
		}
		r = append(r, v)
	}
	return r
}

func stopped(p pause) time.Duration { return p.Stopped }
func reply(p pause) time.Duration   { return p.Reply }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// all values of all rounds, sorted.
func (r rounds) all() []float64 {
	v := slices.Concat(r...)
	slices.Sort(v)
	return v
}

// at is a quantile over all rounds.
func (r rounds) at(q float64) float64 { return quantile(r.all(), q) }

// quantile of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return quantile(s, 0.5)
}

// interval is an estimate with its bounds.
type interval struct{ Low, Estimate, High float64 }

func (i interval) String() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", i.Estimate, i.Low, i.High)
}

// ratio compares a quantile of two, measured in turns: the median of the rounds'
// ratios, with the bounds between which 95 of 100 lie when the checkpoints of
// each round are drawn anew.
func ratio(ours, theirs rounds, q float64) interval {
	const draws = 1000
	random := rand.New(rand.NewPCG(1, 2)) // the same figures give the same bounds
	var drawn []float64
	for range draws {
		drawn = append(drawn, ratioOf(ours, theirs, q, func(v []float64) []float64 { return resample(random, v) }))
	}
	slices.Sort(drawn)
	return interval{quantile(drawn, 0.025), ratioOf(ours, theirs, q, sorted), quantile(drawn, 0.975)}
}

func ratioOf(ours, theirs rounds, q float64, draw func([]float64) []float64) float64 {
	var each []float64
	for i := range min(len(ours), len(theirs)) {
		if below := quantile(draw(theirs[i]), q); below > 0 {
			each = append(each, quantile(draw(ours[i]), q)/below)
		}
	}
	return median(each)
}

func sorted(v []float64) []float64 { return slices.Sorted(slices.Values(v)) }

// resample draws as many values as there are, and sorts them.
func resample(random *rand.Rand, v []float64) []float64 {
	drawn := make([]float64, len(v))
	for i := range drawn {
		drawn[i] = v[random.IntN(len(v))]
	}
	slices.Sort(drawn)
	return drawn
}

// paired compares one figure of each round: the median of the ratios, with the
// lowest and the highest.
func paired(ours, theirs []float64) interval {
	var each []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] > 0 {
			each = append(each, ours[i]/theirs[i])
		}
	}
	return spread(each)
}

// spread is the median of some figures, with the lowest and the highest.
func spread(v []float64) interval {
	s := sorted(v)
	return interval{quantile(s, 0), quantile(s, 0.5), quantile(s, 1)}
}
