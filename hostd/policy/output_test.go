package policy

import "testing"

func TestOutput(t *testing.T) {
	frame := make([]byte, 60)
	if OnCommit.Leaves(frame) || !AtOnce.Leaves(frame) {
		t.Error("a frame leaves on commit only, or at once")
	}
}
