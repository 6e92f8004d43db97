package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestGuestsThatDoNotCooperate: whatever a guest does on its channel delays a
// checkpoint by no more than the deadline, and changes nothing else.
func TestGuestsThatDoNotCooperate(t *testing.T) {
	for name, option := range map[string]string{
		"nobody answers":     "",
		"garbage and floods": " stillpoint.channel=flood",
	} {
		t.Run(name, func(t *testing.T) {
			uncooperative(t, option)
		})
	}
}

func uncooperative(t *testing.T, option string) {
	const checkpoints, deadline = 60, 20 * time.Millisecond
	s := newStage(t, 90*time.Second, scene.Options{})
	slack := s.Pace.Limit(200 * time.Millisecond) // what answers is a process, too
	s.start()
	m := s.NAT()
	m.Initrd = s.Images.Plain
	m.Append += option
	m.Protection = lab.Protection{Checkpoint: "periodic", Interval: s.Pace.Limit(50 * time.Millisecond).String(), QuiesceDeadline: deadline.String()}
	_, err := s.A.StartMachine(s.ctx, m)
	s.must(err)
	s.must(s.Protect(s.ctx, s.A, s.B))
	s.reached(checkpoints)
	late := 0
	for _, e := range s.A.Events() {
		if c := e.Checkpoint; c != nil && time.Duration(c.QuiesceUs)*time.Microsecond > deadline+slack {
			late++
		}
	}
	// One in twenty may be late because the machine that tests is busy.
	if late > checkpoints/20 {
		t.Errorf("%d of %d checkpoints waited for the guest longer than the deadline", late, checkpoints)
	}
	status, err := s.A.Machine(s.ctx, scene.Machine)
	s.must(err)
	if status.Role != "protected" {
		t.Errorf("the machine is %s", status.Role)
	}
	_, err = s.A.KillQEMU(scene.Machine)
	s.must(err)
	_, err = s.B.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
}
