//go:build faults

package fault

import (
	"os"
	"time"
)

// offset is read each time: it is an environment's, which does not change.
func offset() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("STILLPOINT_CLOCK_OFFSET")) // none is no offset
	return d
}
