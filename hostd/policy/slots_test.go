package policy

import (
	"testing"
)

func TestSlots(t *testing.T) {
	var p Slots
	for want := range 3 {
		if got := p.Take(); got != want {
			t.Errorf("slot %d, want %d", got, want)
		}
	}
	p.Leave(1)
	p.Leave(0)
	for _, want := range []int{0, 1, 3} {
		if got := p.Take(); got != want {
			t.Errorf("slot %d, want the lowest that is free, %d", got, want)
		}
	}
}
