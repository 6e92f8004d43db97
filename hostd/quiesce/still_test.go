package quiesce

import (
	"errors"
	"io"
	"os"
	"runtime"
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
	g.conn.SetReadDeadline(time.Now().Add(time.Minute))
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

// TestNothingIsReadInAStillness: QEMU gives buffers back when there is room.
func TestNothingIsReadInAStillness(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial})
	g := <-guests
	session := welcome(t, s, g)
	g.send(agent.TypePong, session, nil)
	still := s.Still()
	g.send(agent.TypeWelcome, session, agent.Welcome{Library: "new"}.Append(nil))
	still.Stopped()
	runtime.Gosched()
	if !still.Unbroken() {
		t.Error("read in the stillness")
	}
	if s.State().Library == "new" {
		t.Error("heard in the stillness")
	}
	still.End()
	until(t, "what was said in the stillness", func() bool { return s.State().Library == "new" })
}

// TestTheGuestIsHeardInAStillness: QEMU had room for more after the stop.
func TestTheGuestIsHeardInAStillness(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial})
	g := <-guests
	session := welcome(t, s, g)
	still := s.Still()
	defer still.End()
	still.Stopped()
	g.send(agent.TypePong, session, nil)
	if still.Unbroken() {
		t.Error("not broken by what QEMU wrote after the stop")
	}
}
