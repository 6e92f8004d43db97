package daemon_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// TestOutputPassesAfterARefusedStop: everything goes on as before, the policy too.
func TestOutputPassesAfterARefusedStop(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	d := &deaf{Arbiter: a.store}
	a.restart(func() { a.asked = d })
	a.startWired("m", "output: pass, checkpoint: periodic, interval: 1m, max-epoch: 1m")
	tap, net := openTap(t, "tap-m"), listenOn(t, "net-m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	leaves := func(text string) {
		t.Helper()
		if _, err := tap.Write(guestFrame(text, 60)); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); !net.hears(text); time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("frame %q is held: %v", text, a.machine("m").Output)
			}
		}
	}
	leaves("before")
	d.deaf.Store(true)
	mustFail(t, a.stop("m"), codes.FailedPrecondition, "not stopped")
	d.deaf.Store(false)
	if m := a.machine("m"); m.Role != "protected" {
		t.Fatalf("it is %v", m)
	}
	leaves("after")
}
