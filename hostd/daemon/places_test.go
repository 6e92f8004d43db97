package daemon

import (
	"testing"
)

func TestPlaces(t *testing.T) {
	var p places
	for want := range 3 {
		if got := p.take(); got != want {
			t.Errorf("place %d, want %d", got, want)
		}
	}
	p.leave(1)
	p.leave(0)
	for _, want := range []int{0, 1, 3} {
		if got := p.take(); got != want {
			t.Errorf("place %d, want the lowest that is free, %d", got, want)
		}
	}
}
