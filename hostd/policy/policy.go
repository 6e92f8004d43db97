// Package policy decides when a checkpoint is due. It is pure: the caller
// brings the time, which only decides when a checkpoint is taken and never
// whether it is right.
package policy

import (
	"math"
	"time"
)

// Policy of a machine's checkpoints.
type Policy struct {
	// Periodic takes a checkpoint every Interval; otherwise one is due as soon
	// as output waits, and the last pause has paid for itself.
	Periodic bool
	Interval time.Duration
	// Origin is one moment at which a periodic checkpoint is due; the others
	// are whole Intervals before and after. See Phase.
	Origin time.Time
	// MinEpoch and MaxEpoch bound the time from one resume to the next
	// checkpoint.
	MinEpoch, MaxEpoch time.Duration
	// Overhead is the largest part of the time that pauses may take: 0.1 is a
	// tenth, on the average of some MaxEpoch. MaxEpoch and an operator outrank it.
	Overhead float64
}

// State is what the policy learns from checkpoint to checkpoint.
type State struct {
	began   time.Time     // of the last checkpoint
	resumed time.Time     // the guest has run since
	pause   time.Duration // learned cost of a pause
	paid    time.Time     // by then all pauses so far have paid for themselves
	// Held: output waits for the next commit. Asked: an operator, or a planned
	// switch-over, wants a checkpoint now.
	Held, Asked bool
}

// weight of the newest pause in the learned cost: a single long one must not
// stretch the next epochs much.
const weight = 0.25

// Paused notes a checkpoint that took from began to resumed, and learns its
// cost. What was held or asked for is settled by it.
func (p Policy) Paused(s State, began, resumed time.Time) State {
	took := max(resumed.Sub(began), 0)
	if s.pause == 0 {
		s.pause = took
	} else {
		s.pause += time.Duration(weight * float64(took-s.pause))
	}
	s.paid = later(s.paid, began).Add(took + p.payback(s.pause))
	s.began, s.resumed, s.Held, s.Asked = began, resumed, false, false
	return s
}

// Skipped notes an attempt that was given up: it has cost a pause too.
func (p Policy) Skipped(s State, began, now time.Time) State {
	held := s.Held
	s = p.Paused(s, began, now)
	s.Held = held
	return s
}

// Pause is the learned cost of a checkpoint.
func (s State) Pause() time.Duration { return s.pause }

// Next says whether a checkpoint is due and, if not, after which time at the
// latest to ask again.
func (p Policy) Next(s State, now time.Time) (due bool, wait time.Duration) {
	if s.Asked {
		return true, 0
	}
	at := p.earliest(s)
	if !p.Periodic && !s.Held {
		at = s.resumed.Add(p.MaxEpoch)
	}
	if wait = at.Sub(now); wait <= 0 {
		return true, 0
	}
	return false, wait
}

// earliest time at which a checkpoint that is wanted may begin. On demand, pauses
// may be taken before the time that pays for them, by up to MaxEpoch: a packet
// that comes alone does not wait for what the one before it has cost. The guest
// runs for as long as it was paused in any case.
func (p Policy) earliest(s State) time.Time {
	if p.Periodic {
		return later(p.turn(s.began), s.resumed.Add(p.MinEpoch))
	}
	soonest := s.resumed.Add(max(min(s.pause, p.payback(s.pause)), p.MinEpoch))
	latest := s.resumed.Add(max(p.MaxEpoch, p.MinEpoch))
	if owing := s.paid.Add(-p.MaxEpoch); owing.Before(latest) {
		return later(soonest, owing)
	}
	return latest
}

// turn is the first moment after a checkpoint began at which the next is due: an
// Interval later at most.
func (p Policy) turn(began time.Time) time.Time {
	if began.IsZero() || p.Interval <= 0 {
		return began
	}
	into := began.Sub(p.Origin) % p.Interval
	if into < 0 {
		into += p.Interval
	}
	return began.Add(p.Interval - into)
}

// Phase is the part of an interval, 0 to 1, by which the machine in a slot, from
// 0, is late for the first one's turn. However many slots are taken from the
// first on, their turns are spread evenly: the golden section keeps the largest
// gap below twice the mean one, and nobody moves when another comes or goes.
func Phase(slot int) float64 {
	_, part := math.Modf(float64(slot) * (math.Phi - 1))
	return part
}

// payback is how long the guest must run for a pause to be at most Overhead of
// the time: pause / (pause + run) <= overhead.
func (p Policy) payback(pause time.Duration) time.Duration {
	if p.Overhead <= 0 {
		return p.MaxEpoch
	}
	run := float64(pause) * (1/p.Overhead - 1)
	return time.Duration(min(run, float64(p.MaxEpoch)))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
