package supervise

import (
	"sync/atomic"
	"testing"
)

// TestEachDaemonThatComesIsTold once, before anything that it asks for is done.
func TestEachDaemonThatComesIsTold(t *testing.T) {
	s := start(t, noGrace, farAway, Record{})
	s.end()
	var came atomic.Int32
	s.o.Entered = func() { came.Add(1) }
	s.run()
	for want := int32(1); want <= 2; want++ {
		c := s.dial()
		if _, err := c.List(limited(t)); err != nil {
			t.Fatal(err)
		}
		if got := came.Load(); got != want {
			t.Errorf("%d daemons came, %d were told", want, got)
		}
		c.Close()
	}
}
