package primary

import "time"

const (
	checkpointDelay = 5 * time.Millisecond
	prepareLimit    = 60 * time.Second
	resumeLimit     = 30 * time.Second
	retryInterval   = 200 * time.Millisecond
	deathNotice     = time.Second
)
