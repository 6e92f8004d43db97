package fault

import "time"

// Now is the wall clock. Only a build with faults may shift it, by
// STILLPOINT_CLOCK_OFFSET. Nothing that is safe or not depends on it: it dates
// events and records, and tells whether a certificate is valid.
func Now() time.Time { return time.Now().Add(offset()) }
