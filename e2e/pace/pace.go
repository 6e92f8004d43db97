// Package pace tells how fast this machine is, so that nothing that runs on it
// assumes a speed: limits grow with its slowness, and counts shrink.
package pace

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reference is how many rounds of work per second two cores do, each for
	// itself, of the machine on which the limits and counts of tests were found.
	reference = 9000
	// slowest is as slow as is believed: beyond it a machine does something else.
	slowest = 8
	// measured for this long: longer than the periods in which a quota is given out.
	measured = 1500 * time.Millisecond
)

// Pace of a machine. The zero value is the reference's.
type Pace struct {
	// Slowness is how many times slower than the reference it is, at least 1.
	Slowness float64
}

// Here is this machine's pace, as measured once for this process at the first
// call, which takes a second or two.
var Here = sync.OnceValue(Measure)

// Measure has all processors work for a moment.
func Measure() Pace {
	var rounds atomic.Int64
	began := time.Now()
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for time.Since(began) < measured {
				work()
				rounds.Add(1)
			}
		})
	}
	all.Wait()
	return of(float64(rounds.Load()) / time.Since(began).Seconds())
}

func of(rounds float64) Pace {
	return Pace{min(max(1, reference/max(rounds, 1)), slowest)}
}

// work takes some 0.2 ms on the reference, whatever it was
// built with.
//
//go:norace
//go:noinline
func work() uint64 {
	x := uint64(88172645463325252)
	for range 1 << 17 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// tooSlow is the slowness from which on tests leave out what others come close to, so
// that their time stays bounded.
const tooSlow = 3

// Slow says that only the most telling of many like tests are to run.
func (p Pace) Slow() bool { return p.Slowness > tooSlow }

// Skipper is what SkipOnSlow needs of a testing.TB.
type Skipper interface {
	Helper()
	Skipf(format string, args ...any)
}

// SkipOnSlow skips a test on a slow machine unless it is a telling one.
func SkipOnSlow(t Skipper, telling bool) {
	t.Helper()
	if p := Here(); p.Slow() && !telling {
		t.Skipf("%v; others like it are tested", p)
	}
}

// Limit is d on the reference, and longer on a slower machine.
func (p Pace) Limit(d time.Duration) time.Duration {
	return time.Duration(float64(d) * max(1, p.Slowness))
}

// Count is n on the reference, and fewer on a slower machine, but not fewer
// than least.
func (p Pace) Count(n, least int) int {
	return max(min(n, least), int(float64(n)/max(1, p.Slowness)))
}

func (p Pace) String() string {
	return fmt.Sprintf("pace: %.1f times slower than the reference", max(1, p.Slowness))
}
