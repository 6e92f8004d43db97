package policy

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// at is a time in milliseconds after some moment.
func at(n int) time.Time { return time.Unix(1000, 0).Add(time.Duration(n) * ms) }

func demand() Policy {
	return Policy{MinEpoch: 2 * ms, MaxEpoch: 500 * ms, Overhead: 0.1}
}

// after is the state after a first checkpoint that ended at 0.
func after(pause time.Duration) State {
	return demand().Paused(State{}, at(0).Add(-pause), at(0))
}

// owing is the state of a machine whose output has long been committed as often
// as overhead allows, after a checkpoint that ended at 0.
func owing(p Policy, pause time.Duration) State {
	s := State{}
	for range 1000 {
		s = p.Paused(s, at(0).Add(-pause), at(0))
	}
	s.paid = at(0).Add(p.MaxEpoch + p.payback(pause))
	return s
}

func held(s State) State  { s.Held = true; return s }
func asked(s State) State { s.Asked = true; return s }

func TestNext(t *testing.T) {
	periodic := Policy{Periodic: true, Interval: 50 * ms, Origin: at(990), MinEpoch: 2 * ms, MaxEpoch: 500 * ms, Overhead: 0.1}
	phased := periodic
	phased.Origin = at(7)
	slow := demand()
	slow.MinEpoch = 600 * ms
	for _, c := range []struct {
		name   string
		policy Policy
		state  State
		now    int
		due    bool
		wait   time.Duration
	}{
		{"before any checkpoint", demand(), State{}, 0, true, 0},
		{"nothing held: max-epoch", demand(), after(10 * ms), 1, false, 499 * ms},
		{"nothing held, max-epoch over", demand(), after(10 * ms), 500, true, 0},
		{"held after a lone pause: the guest runs as long", demand(), held(after(10 * ms)), 1, false, 9 * ms},
		{"held after a lone pause, over", demand(), held(after(10 * ms)), 10, true, 0},
		{"held, owing: the pauses have not paid", demand(), held(owing(demand(), 10*ms)), 1, false, 89 * ms},
		{"held, owing: the pauses have just paid", demand(), held(owing(demand(), 10*ms)), 90, true, 0},
		{"held after a tiny pause: min-epoch", demand(), held(after(ms / 100)), 1, false, 1 * ms},
		{"held, owing a huge pause: max-epoch", demand(), held(owing(demand(), time.Second)), 1, false, 499 * ms},
		{"min-epoch above max-epoch", slow, held(after(time.Second)), 500, false, 100 * ms},
		{"asked: at once", demand(), asked(after(time.Second)), 0, true, 0},
		{"asked while periodic", periodic, asked(after(10 * ms)), 0, true, 0},
		{"a clock behind the last checkpoint waits", demand(), held(owing(demand(), 10*ms)), -5, false, 95 * ms},
		{"periodic, before any checkpoint", phased, State{}, 0, true, 0},
		{"periodic counts from the beginning", periodic, after(10 * ms), 0, false, 40 * ms},
		{"periodic, in its own turn", phased, after(10 * ms), 0, false, 7 * ms},
		{"periodic, in its own turn, over", phased, after(10 * ms), 7, true, 0},
		{"periodic, began in its turn: the next one", phased, demand().Paused(State{}, at(7), at(9)), 9, false, 48 * ms},
		{"periodic, its turn is too near: min-epoch", phased, demand().Paused(State{}, at(3), at(6)), 6, false, 2 * ms},
		{"asked in another's turn", phased, asked(after(10 * ms)), 0, true, 0},
		{"periodic, held output changes nothing", periodic, held(after(10 * ms)), 0, false, 40 * ms},
		{"periodic, over", periodic, after(10 * ms), 40, true, 0},
		{"periodic, pause longer than the interval: min-epoch", periodic, after(100 * ms), 0, false, 2 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			due, wait := c.policy.Next(c.state, at(c.now))
			if due != c.due || wait != c.wait {
				t.Errorf("due %v, wait %v; want %v, %v", due, wait, c.due, c.wait)
			}
		})
	}
}

func TestOverheadIsAFraction(t *testing.T) {
	for _, c := range []struct {
		overhead float64
		wait     time.Duration // after a pause of 10 ms
	}{
		{0.01, 500 * ms}, // 990 ms, bounded by max-epoch
		{0.02, 490 * ms},
		{0.1, 90 * ms},
		{0.5, 10 * ms},
		{1, 2 * ms},   // min-epoch
		{2, 2 * ms},   // more than all the time
		{0, 500 * ms}, // no pause is ever paid for
	} {
		p := demand()
		p.Overhead = c.overhead
		if _, wait := p.Next(held(owing(p, 10*ms)), at(0)); wait != c.wait {
			t.Errorf("overhead %v: wait %v, want %v", c.overhead, wait, c.wait)
		}
	}
}

func TestPauseIsLearned(t *testing.T) {
	s := after(10 * ms)
	if s.Pause() != 10*ms {
		t.Fatalf("the first pause counts whole: %v", s.Pause())
	}
	s = demand().Paused(s, at(100), at(150)) // one that is five times as long
	if s.Pause() != 20*ms {
		t.Fatalf("after one long pause: %v", s.Pause())
	}
	for i := range 40 {
		s = demand().Paused(s, at(1000+100*i), at(1010+100*i))
	}
	if d := s.Pause() - 10*ms; d < 0 || d > 10*time.Microsecond {
		t.Fatalf("did not come back to 10ms: %v", s.Pause())
	}
}

func TestBackwardClockTeachesNothing(t *testing.T) {
	s := demand().Paused(after(10*ms), at(200), at(100))
	if s.Pause() < 0 || s.Pause() > 10*ms {
		t.Fatalf("learned pause %v", s.Pause())
	}
}

func TestStateIsAValue(t *testing.T) {
	s := held(asked(after(10 * ms)))
	was := s
	next := demand().Paused(s, at(100), at(110))
	if s != was {
		t.Fatal("Paused changed its receiver")
	}
	if next.Held || next.Asked {
		t.Fatal("a checkpoint leaves nothing wanted")
	}
	if skipped := demand().Skipped(s, at(100), at(110)); !skipped.Held || skipped.Pause() != next.Pause() {
		t.Fatal("a skipped checkpoint costs its time, and output still waits")
	}
}

// TestOverheadIsKept runs a busy machine for ten seconds: pauses take no more
// than their part.
func TestOverheadIsKept(t *testing.T) {
	p, s := demand(), State{}
	var paused time.Duration
	now := at(0)
	for now.Before(at(10_000)) {
		s.Held = true
		due, wait := p.Next(s, now)
		if !due {
			if wait <= 0 {
				t.Fatal("not due, and no time to wait")
			}
			now = now.Add(wait)
			continue
		}
		took := 3*ms + time.Duration(now.UnixNano()%4)*ms
		paused += took
		s = p.Paused(s, now, now.Add(took))
		now = now.Add(took)
	}
	if share := float64(paused) / float64(10*time.Second); share > 0.11 || share < 0.08 {
		t.Fatalf("pauses took %.3f of the time", share)
	}
}

// TestAloneAPacketDoesNotWait: a request every 200 ms and its answer are
// committed at once, one after the other.
func TestAloneAPacketDoesNotWait(t *testing.T) {
	const pause = 5 * ms
	p, s := demand(), State{}
	for n := range 50 {
		now := at(200 * n)
		for _, what := range []string{"request", "answer"} {
			s.Held = true
			due, wait := p.Next(s, now)
			if !due && wait > pause {
				t.Fatalf("%s %d waits for %v", what, n, wait)
			}
			now = now.Add(wait)
			s = p.Paused(s, now, now.Add(pause))
			now = now.Add(pause)
		}
	}
}

// TestNoIntervalIsLonger: whatever the turn, the next checkpoint is due an
// interval after the last began, at the latest.
func TestNoIntervalIsLonger(t *testing.T) {
	for origin := -70; origin < 70; origin++ {
		p := Policy{Periodic: true, Interval: 50 * ms, Origin: at(origin)}
		s := demand().Paused(State{}, at(0), at(0))
		_, wait := p.Next(s, at(0))
		if wait <= 0 || wait > p.Interval || at(0).Add(wait).Sub(p.Origin)%p.Interval != 0 {
			t.Errorf("origin %d: next after %v", origin, wait)
		}
	}
}

// TestTurnsAreSpread: any number of machines whose checkpoints all began at once
// are due one after the other, with gaps below twice the mean one.
func TestTurnsAreSpread(t *testing.T) {
	const interval = time.Second
	for machines := 1; machines <= 300; machines++ {
		var due []time.Duration
		for place := range machines {
			origin := at(0).Add(time.Duration(Phase(place) * float64(interval)))
			p := Policy{Periodic: true, Interval: interval, Origin: origin}
			_, wait := p.Next(demand().Paused(State{}, at(0), at(0)), at(0))
			due = append(due, wait)
		}
		slices.Sort(due)
		widest := due[0] + interval - due[machines-1]
		for i := range machines - 1 {
			widest = max(widest, due[i+1]-due[i])
		}
		if mean := interval / time.Duration(machines); widest >= 2*mean {
			t.Errorf("%d machines: a gap of %v, the mean is %v", machines, widest, mean)
		}
	}
}
