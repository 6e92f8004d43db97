package primary

import "time"

// PrepareLimit is how long a standby may take to prepare, on both hosts.
const PrepareLimit = 60 * time.Second

const (
	checkpointDelay = 5 * time.Millisecond
	resumeLimit     = 30 * time.Second
	retryInterval   = 200 * time.Millisecond
	deathNotice     = time.Second
)
