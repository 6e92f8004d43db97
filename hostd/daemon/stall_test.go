package daemon_test

import (
	"net"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
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
		stand(conn, r)
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
