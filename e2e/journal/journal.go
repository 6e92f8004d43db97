// Package journal keeps what a test's code logs, for the test to look at.
package journal

import (
	"bytes"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// Journal is an io.Writer that keeps what is written. The zero value is ready, and all
// may be called concurrently.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write never fails.
func (j *Journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// String is all of it.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Count says how often something is in it.
func (j *Journal) Count(what string) int { return strings.Count(j.String(), what) }

// Logger writes all to it.
func (j *Journal) Logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: j, Level: hclog.Trace})
}
