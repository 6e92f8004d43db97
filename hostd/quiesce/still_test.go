package quiesce

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// TestNothingIsWrittenInAStillness: not even heartbeats, which are many here.
func TestNothingIsWrittenInAStillness(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial, Heartbeat: time.Millisecond})
	g := <-guests
	g.next(t, agent.TypeHello)
	still := s.Still()
	g.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.CopyN(io.Discard, g.conn, int64(still.unread)); err != nil {
		t.Fatal(err)
	}
	g.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := g.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes (%v) in a stillness", n, err)
	}
	still.End()
	g.next(t, agent.TypeHello)
}

// TestABrokenStillness: the guest takes what it had left alone.
func TestABrokenStillness(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial})
	g := <-guests
	until(t, "a hello on its way", func() bool {
		still := s.Still()
		defer still.End()
		return still.unread > 0
	})
	still := s.Still()
	defer still.End()
	if !still.Unbroken() {
		t.Error("broken before anything was taken")
	}
	g.next(t, agent.TypeHello)
	if still.Unbroken() {
		t.Error("not broken after the guest took it")
	}
}
