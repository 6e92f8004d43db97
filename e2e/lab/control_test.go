package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

func TestControl(t *testing.T) {
	h, ctx := startFake(t), testContext(t)
	if _, err := h.StartMachine(ctx, NATMachine(ImagesIn("/images"), "oracle")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.WaitEvent(ctx, 0, Kind("nat", "unprotected")); err != nil {
		t.Fatal(err)
	}
	mark := h.EventMark()
	waited := make(chan error, 1)
	go func() {
		_, err := h.WaitRole(ctx, "nat", "solo", "protected")
		waited <- err
	}()
	if m, err := h.Protect(ctx, "nat", "b"); err != nil || m.Role != "protected" {
		t.Fatalf("protect: %v, %v", m, err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	e, err := h.WaitEvent(ctx, mark, func(Event) bool { return true })
	if err != nil || e.Kind != "protected" || e.Received.IsZero() || len(h.Events()) != 2 {
		t.Errorf("event %v, %v; %d in all", e, err, len(h.Events()))
	}
	if m, err := h.Machine(ctx, "other"); m != nil || err != nil {
		t.Errorf("a machine nobody started: %v, %v", m, err)
	}
	if err := h.Restart(ctx, role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	if s, err := h.Status(ctx); err != nil || len(s.Machines) != 0 || len(h.Events()) != 2 {
		t.Errorf("after the restart: %v, %v", s, err)
	}
}

func TestFailuresSayWhatTheHostLogged(t *testing.T) {
	h := startFake(t)
	_, err := h.Takeover(testContext(t), "nat") // the fake cannot
	var f *Failure
	if !errors.As(err, &f) || !strings.Contains(err.Error(), "fake daemon of host a") {
		t.Errorf("got %v", err)
	}
	if _, err := h.WaitRole(within(t, 10*time.Millisecond), "nat", "solo"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := h.lab.Explain(errors.New("bad")); !strings.Contains(err.Error(), "fake daemon") {
		t.Errorf("got %v", err)
	}
	if _, err := h.lab.Hosts[1].Status(testContext(t)); err == nil {
		t.Error("a daemon that was never started answers")
	}
}

func TestEventLogForgetsTheOlderHalf(t *testing.T) {
	var l eventLog
	for i := range maxEvents + 1 {
		l.add(Event{Event: &control.Event{Epoch: uint64(i)}})
	}
	events, end, _ := l.since(0)
	if len(events) != maxEvents/2+1 || end != maxEvents+1 || events[0].Epoch != maxEvents/2 {
		t.Errorf("%d events, end %d, first %d", len(events), end, events[0].Epoch)
	}
	if events, _, _ = l.since(maxEvents); len(events) != 1 {
		t.Errorf("%d events since the last but one", len(events))
	}
}
