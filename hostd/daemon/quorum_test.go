package daemon_test

import (
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// TestAnArbiterThatIsSilent is told of before anybody needs it, and that it is back.
func TestAnArbiterThatIsSilent(t *testing.T) {
	a, _ := pairOfHosts(t)
	d := &deaf{Arbiter: a.store}
	a.restart(func() { a.asked = d })
	warnings := func() string {
		s, err := a.client.Status(a.ctx(), &control.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(s.Warnings, "\n")
	}
	if w := warnings(); w != "" {
		t.Errorf("%q", w)
	}
	d.deaf.Store(true)
	a.await("the warning", func() bool { return strings.Contains(warnings(), "none can be taken over") })
	d.deaf.Store(false)
	a.await("its end", func() bool { return warnings() == "" })
}
