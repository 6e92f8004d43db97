package supervise

import (
	"os"
	"strings"
	"testing"
)

// TestANumberThatIsAnothersByNow is not watched: what it names may be killed.
func TestANumberThatIsAnothersByNow(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, farAway, theirs)
	c := s.dial()
	began, err := StartTime(q.pid())
	if err != nil {
		t.Fatal(err)
	}
	w := Watched{Machine: machine1, Pid: q.pid(), Monitor: q.path, Started: began - 1}
	if err := c.Watch(limited(t), w); err == nil || !strings.Contains(err.Error(), "another one by now") {
		t.Errorf("watch: %v", err)
	}
	w.Started = began
	if err := c.Watch(limited(t), w); err != nil {
		t.Error(err)
	}
}

func TestStartTime(t *testing.T) {
	own, err := StartTime(os.Getpid())
	if err != nil || own == 0 {
		t.Error(own, err)
	}
	if parent, err := StartTime(1); err != nil || parent > own {
		t.Error(parent, err)
	}
	if _, err := StartTime(1 << 30); err == nil {
		t.Error("no process has a start time")
	}
}

// TestAnArbiterThatHasForgottenKillsNothing: what it says is older than what the
// daemon has told.
func TestAnArbiterThatHasForgottenKillsNothing(t *testing.T) {
	q := newFalseQEMU(t, "none", "running")
	s := start(t, noGrace, farAway, theirs)
	c := s.dial()
	w := Watched{Machine: machine1, Pid: q.pid(), Monitor: q.path, Generation: theirs.Generation + 1}
	if err := c.Watch(limited(t), w); err != nil {
		t.Fatal(err)
	}
	s.connected(c)
	c.Close()
	before := s.arbiter.questions()
	until(t, "the arbiter is asked some times", func() bool { return s.arbiter.questions() > before+5 })
	select {
	case <-q.exited:
		t.Error("QEMU was killed by a record that is older than what is known")
	default:
	}
	s.arbiter.set(Record{Generation: theirs.Generation + 2, Voice: "b"}, false)
	<-q.exited
}
