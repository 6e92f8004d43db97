package gate

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestWhatWasHandedInIsTakenBeforeAStop: as long as QEMU goes on to read its tap.
func TestWhatWasHandedInIsTakenBeforeAStop(t *testing.T) {
	const frames = 50
	w := newRealWire(t, 2, Options{})
	w.OpenInput()
	w.send(1, 1, frames)
	w.delivered(frames)
	w.HoldInput()
	taken := make(chan error, 1)
	go func() { taken <- w.AwaitTaken(t.Context()) }()
	for n := range frames {
		select {
		case err := <-taken:
			t.Fatalf("%d of %d frames were read: %v", n, frames, err)
		case <-time.After(time.Millisecond): // that QEMU is slow is the point
		}
		if w.qemus[1].Read() == nil {
			t.Fatal("the tap is empty")
		}
	}
	if err := <-taken; err != nil {
		t.Error(err)
	}
	if c, err := w.CutInput(); err != nil || c.Tails[1] != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestAPortThatIsNotReadIsNotWaitedFor, but once.
func TestAPortThatIsNotReadIsNotWaitedFor(t *testing.T) {
	w := newRealWire(t, 1, Options{})
	w.OpenInput()
	w.send(0, 1, 2)
	w.delivered(2)
	w.HoldInput()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.AwaitTaken(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := w.AwaitTaken(t.Context()); !errors.Is(err, errDeaf) {
		t.Errorf("%v", err)
	}
	if err := w.AwaitTaken(ended); err != nil {
		t.Errorf("a port that was given up is waited for: %v", err)
	}
	w.qemus[0].Read()
	if err := w.AwaitTaken(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a port that is read again is not waited for: %v", err)
	}
}
