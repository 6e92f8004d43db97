package daemon

import (
	"slices"
	"testing"
)

func TestWithout(t *testing.T) {
	if rest := without([]string{"A", "B", "C"}, []string{"C", "A", "D"}); !slices.Equal(rest, []string{"B"}) {
		t.Errorf("%q", rest)
	}
	if rest := without([]string{"A"}, []string{"A"}); rest != nil {
		t.Errorf("%q", rest)
	}
}
