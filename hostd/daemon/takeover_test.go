package daemon_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

func (h *host) takeover(name string) error {
	_, err := h.client.Takeover(h.ctx(), &control.MachineRequest{Name: name})
	return err
}

// mustProtect starts a machine on a and protects it on b.
func (h *host) mustProtect(name, mode string) {
	h.t.Helper()
	h.mustStart(name, mode)
	if err := h.protect(name, "b"); err != nil {
		h.t.Fatal(err)
	}
}

// TestATakeover: the machine runs on the standby, and the old primary's part ends.
func TestATakeover(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustProtect("m", "")
	if err := b.takeover("m"); err != nil {
		t.Fatal(err)
	}
	if r := b.record("m"); r.Voice != "b" {
		t.Errorf("the arbiter says %+v", r)
	}
	a.await("the old primary's end", func() bool { m := a.machine("m"); return m == nil || m.Role == "fenced" || m.Role == "standby" })
	b.await("the pair the other way round", func() bool { return b.machine("m").Role == "protected" })
}

// TestATakeoverThatFails: nobody has the machine any more, and that is said.
func TestATakeoverThatFails(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustProtect("m", "fails takeover")
	mustFail(t, b.takeover("m"), codes.FailedPrecondition, "QEMU")
	b.gone("m")
}
