package daemon_test

import (
	"syscall"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// restart ends the daemon in good order and begins another, after something has
// happened in between.
func (h *host) restart(between func()) {
	h.t.Helper()
	h.end()
	if err := <-h.served; err != nil {
		h.t.Fatal(err)
	}
	between()
	h.serve()
	h.awaitServing()
}

func (h *host) record(machine string) arbiter.Record {
	h.t.Helper()
	r, err := h.store.Current(h.ctx(), machine)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// TestANewDaemonAdopts what is its own. It claims that anew: a claim of the last
// daemon that is still on its way must lose.
func TestANewDaemonAdopts(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	left, stands := a.machine("m").QemuPid, a.record("m")
	a.restart(func() {})
	a.await("the machine", func() bool { return a.machine("m") != nil })
	m := a.machine("m")
	if m.Role != "unprotected" || m.QemuPid != left || m.Generation != stands.Generation+1 {
		t.Errorf("%v; its QEMU was %d, its generation %d", m, left, stands.Generation)
	}
	if r := a.record("m"); r.Voice != "a" || r.Generation != m.Generation {
		t.Errorf("the arbiter says %+v", r)
	}
	late := arbiter.Record{Machine: "m", Generation: stands.Generation + 1, Voice: "a", Standby: "b", Kind: "pair"}
	if _, err := a.store.TestAndSet(a.ctx(), stands.Generation, late); err == nil {
		t.Error("a claim of the last daemon won")
	}
}

// TestANewDaemonEndsWhatIsAnothers.
func TestANewDaemonEndsWhatIsAnothers(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	left := int(a.machine("m").QemuPid)
	a.restart(func() {
		stands := a.record("m")
		taken := arbiter.Record{Machine: "m", Generation: stands.Generation + 1, Voice: "b", Kind: "takeover"}
		if _, err := a.store.TestAndSet(a.ctx(), stands.Generation, taken); err != nil {
			t.Fatal(err)
		}
	})
	a.await("its QEMU to end", func() bool { return syscall.Kill(left, 0) == syscall.ESRCH })
	if m := a.machine("m"); m != nil {
		t.Errorf("a has %v", m)
	}
}
