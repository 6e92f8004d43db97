package daemon

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestTasksBegunWhileTheyAreWaitedFor run before the wait ends, or not at all.
func TestTasksBegunWhileTheyAreWaitedFor(t *testing.T) {
	for range 2000 {
		var group tasks
		var ran, begun atomic.Int64
		end := make(chan struct{})
		group.Go(func() { <-end })
		var all sync.WaitGroup
		all.Go(func() {
			group.Wait()
			if r, b := ran.Load(), begun.Load(); r < b {
				t.Errorf("%d tasks of %d have run when the wait ends", r, b)
			}
			if group.Go(func() {}) {
				t.Error("a task begins after the end")
			}
		})
		all.Go(func() {
			close(end)
			for range 50 {
				if !group.Go(func() { ran.Add(1) }) {
					return
				}
				begun.Add(1)
			}
		})
		all.Wait()
	}
}
