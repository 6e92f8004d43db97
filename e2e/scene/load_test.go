package scene

import "testing"

func TestRatesArePartsOfWhatIsCarried(t *testing.T) {
	for _, c := range []struct {
		capacity, rate int
		bytes          uint64
	}{
		{0, 10, 16 << 10}, {100, 10, 34952}, {600, 60, 209715}, {3000, 300, 1 << 20}, {50000, 300, 1 << 20},
	} {
		l := Load{c.capacity}
		if got := l.Rate(300, 10); got != c.rate {
			t.Errorf("capacity %d: 10%% of it, at most 300, is %d, want %d", c.capacity, got, c.rate)
		}
		if got := l.Bytes(1 << 20); got != c.bytes {
			t.Errorf("capacity %d: %d bytes per second, want %d", c.capacity, got, c.bytes)
		}
	}
}
