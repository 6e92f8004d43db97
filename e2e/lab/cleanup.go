package lab

import (
	"errors"
	"fmt"
	"sync"
)

// cleanup is a stack of undo steps, unwound in reverse. Safe for concurrent
// use.
type cleanup struct {
	mu    sync.Mutex
	steps []step
}

type step struct {
	what string
	undo func() error
}

func (c *cleanup) push(what string, undo func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, step{what, undo})
}

// unwind runs every step, the last one first, and goes on after errors. A
// second call finds nothing to do.
func (c *cleanup) unwind() error {
	var errs []error
	for {
		s, ok := c.pop()
		if !ok {
			return errors.Join(errs...)
		}
		if err := s.undo(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.what, err))
		}
	}
}

func (c *cleanup) pop() (step, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.steps)
	if n == 0 {
		return step{}, false
	}
	s := c.steps[n-1]
	c.steps = c.steps[:n-1]
	return s, true
}
