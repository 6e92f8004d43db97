package policy

import "time"

const (
	retryFirst = 3 * time.Second
	retryMost  = 5 * time.Minute
)

// Retry says when a machine may be protected again by a host that has failed at it. A
// first copy costs the guest, the link and the standby, and may fail in the same way
// each time. The zero Retry is of a host that has not failed.
type Retry struct {
	failures int
	due      time.Time
}

// Failed notes another failure in a row: 3 s until the next try, and twice as long after
// each, five minutes at most.
func (r Retry) Failed(now time.Time) Retry {
	pause := retryMost
	if r.failures < 16 { // more would not fit
		pause = min(retryFirst<<r.failures, retryMost)
	}
	return Retry{failures: r.failures + 1, due: now.Add(pause)}
}

// Lost notes that the host is out of reach: it is tried at once when it is back, and
// its failures are not forgotten.
func (r Retry) Lost() Retry { return Retry{failures: r.failures} }

// Due reports whether the host may be tried.
func (r Retry) Due(now time.Time) bool { return !now.Before(r.due) }

// Failures in a row.
func (r Retry) Failures() int { return r.failures }

// At is when the host may be tried.
func (r Retry) At() time.Time { return r.due }
