package netdev

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCountsOfNoInterface: the error says which, and the socket stays usable.
func TestCountsOfNoInterface(t *testing.T) {
	c := openCounts(t)
	for range 2 {
		if _, err := c.Sent(1 << 30); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "1073741824") {
			t.Errorf("of an interface that is not there: %v", err)
		}
	}
	if _, err := c.Sent(1); err != nil {
		t.Errorf("of the loopback: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { c.Sent(1) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCounts(b *testing.B) {
	c := openCounts(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Sent(1); err != nil {
			b.Fatal(err)
		}
	}
}
