package daemon_test

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
	"github.com/stillpoint-ft/stillpoint/proto/control"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// stalledIn is the last epoch of a machine that stalls in the next, and progress
// how many others commit meanwhile.
const (
	stalledIn = 3
	progress  = 30
)

// patient hosts do not give up what stalls: not within a test.
func patient(c *config.Config) {
	c.Detection.QEMU = yamlfile.Duration(2 * patience)
	c.Detection.Limit = yamlfile.Duration(patience)
}

// commitsWhile wants the witness to go on while a machine is stalled.
func (w *witness) commitsWhile(stalled string) {
	w.h.t.Helper()
	w.h.await("the machine to stall", func() bool { return w.h.machine(stalled).Epoch == stalledIn })
	from := w.h.machine("witness").Epoch
	w.h.await("epochs of the witness", func() bool { return w.h.machine("witness").Epoch >= from+progress })
	if m := w.h.machine(stalled); m.Role != "protected" || m.Epoch != stalledIn {
		w.h.t.Errorf("machine %s did not stall all the time: %v", stalled, m)
	}
	w.check()
}

// TestAQEMUThatHangsStallsNobody: it says nothing more in a checkpoint.
func TestAQEMUThatHangsStallsNobody(t *testing.T) {
	a, _ := pairOfHostsWith(t, patient)
	w := protectWitness(a)
	a.mustStart("m", "hang=4")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	w.commitsWhile("m")
}

// TestAStandbyThatStallsStallsNobody: it lives, and reads nothing more. Epochs are
// large, so that the daemon has more to send than the link takes.
func TestAStandbyThatStallsStallsNobody(t *testing.T) {
	a, _ := pairOfHostsWith(t, patient)
	ended := make(chan struct{})
	falseStandby(t, a, func(conn net.Conn, r *replica.Reader) {
		standWith(conn, r, patience)
		for h, ok := hearUntil(r, replica.TypeEpochEnd); ok; h, ok = hearUntil(r, replica.TypeEpochEnd) {
			conn.Write(frame(replica.TypeAck, h.Epoch, nil))
			if h.Epoch == stalledIn {
				break
			}
		}
		beatUntil(conn, ended)
	})
	t.Cleanup(func() { close(ended) }) // before the false standby is waited for
	w := protectWitness(a)
	a.mustStart("m", "dirty=4000")
	if err := a.protect("m", "nowhere"); err != nil {
		t.Fatal(err)
	}
	w.commitsWhile("m")
}

// beatUntil makes a peer heard until the end.
func beatUntil(conn net.Conn, ended <-chan struct{}) {
	beat := frame(replica.TypeHeartbeat, 0, replica.Heartbeat{}.Append(nil))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			conn.Write(beat)
		}
	}
}

// TestAGuestIsFreed: QEMU goes on no more somewhere before the standby holds an
// epoch. Its protection is given up and the guest runs on, with the same QEMU.
func TestAGuestIsFreed(t *testing.T) {
	for _, series := range []string{"10", "11"} {
		for _, fault := range []string{falseqemu.Deaf, falseqemu.NeverConnects, falseqemu.StallsFirst, falseqemu.StallsStopped,
			falseqemu.NeverEnters, falseqemu.NeverResumes, falseqemu.NeverAsks, "hang=1"} {
			t.Run(series+" "+fault, func(t *testing.T) {
				t.Parallel()
				guestIsFreed(t, fault+",series="+series)
			})
		}
	}
}

func guestIsFreed(t *testing.T, mode string) {
	const limit = 300 * time.Millisecond
	a, b := pairOfHostsWith(t, func(c *config.Config) { c.Detection.QEMU = yamlfile.Duration(limit) })
	a.mustStart("m", mode)
	pid := int(a.machine("m").QemuPid)
	events, err := a.client.Events(a.ctx(), &control.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "runs on here", "QEMU did not get on", "detection.qemu")
	if m := a.machine("m"); m.Role != "unprotected" || int(m.QemuPid) != pid {
		t.Errorf("the machine is %v, and was process %d", m, pid)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("QEMU: %v", err)
	}
	for told := false; !told; {
		e, err := events.Recv()
		if err != nil {
			t.Fatalf("no event tells: %v", err)
		}
		told = e.Kind == "qemu-hangs" && strings.Contains(e.Message, "given up")
	}
	b.await("the standby to be dropped", func() bool { return b.machine("m") == nil })
}

// TestBothSeriesAreProtected, and protected once more after that.
func TestBothSeriesAreProtected(t *testing.T) {
	for _, series := range []string{"10", "11"} {
		t.Run(series, func(t *testing.T) {
			a, _ := pairOfHosts(t)
			a.mustStart("m", "dirty=40,device=3000000,series="+series)
			for range 2 {
				if err := a.protect("m", "b"); err != nil {
					t.Fatal(err)
				}
				a.await("some epochs", func() bool { return a.machine("m").Epoch > 5 })
				if _, err := a.client.Unprotect(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestAQEMUThatHangsIsEnded once its standby holds an epoch, which then runs it.
func TestAQEMUThatHangsIsEnded(t *testing.T) {
	a, b := pairOfHostsWith(t, func(c *config.Config) { c.Detection.QEMU = yamlfile.Duration(300 * time.Millisecond) })
	a.mustStart("m", "hang=4")
	pid := int(a.machine("m").QemuPid)
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	b.await("the standby to run the machine", func() bool { m := b.machine("m"); return m != nil && m.Role == "solo" })
	a.await("QEMU to end", func() bool { return syscall.Kill(pid, 0) != nil })
}
