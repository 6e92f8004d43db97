package capture

import "testing"

// TestMemoryOfALargeEpoch is let go when small ones follow; epochs of one size
// take no more.
func TestMemoryOfALargeEpoch(t *testing.T) {
	e := new(Epoch)
	take := func(batches int) {
		e.Reset(1, 1<<20)
		for range batches * batchPages {
			if _, err := e.Page(0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	const large, small = 20, 3
	take(large)
	for range large {
		take(small)
	}
	if n := len(e.batches); n > 2*small+1 {
		t.Errorf("%d batches for epochs of %d", n, small)
	}
	if n := testing.AllocsPerRun(20, func() { take(small) }); n != 0 {
		t.Errorf("%v allocations for an epoch like the last", n)
	}
}
