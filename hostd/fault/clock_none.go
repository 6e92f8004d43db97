//go:build !faults

package fault

import "time"

func offset() time.Duration { return 0 }
