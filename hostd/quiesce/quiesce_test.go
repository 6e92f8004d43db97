package quiesce

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

func expect(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// falseGuest is a guest's end whose behaviour a test writes out.
type falseGuest struct {
	conn net.Conn
	r    *agent.Reader
}

// pair returns a connected socket pair as QEMU and a daemon have it.
func pair(t *testing.T) (dial func(context.Context) (net.Conn, error), guests chan *falseGuest) {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/agent")
	if err != nil {
		t.Fatal(err)
	}
	guests = make(chan *falseGuest, 16)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			guests <- &falseGuest{conn, agent.NewReader(conn)}
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	var d net.Dialer
	return func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "unix", l.Addr().String())
	}, guests
}

// next returns the host's next frame of a type.
func (g *falseGuest) next(t *testing.T, kind agent.Type) (agent.Header, []byte) {
	t.Helper()
	g.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		h, p, err := g.r.Next()
		if err != nil {
			t.Fatalf("waiting for %v: %v", kind, err)
		}
		if h.Type == kind {
			return h, p
		}
	}
}

func (g *falseGuest) send(kind agent.Type, session uint64, p []byte) {
	b, _ := agent.Append(nil, agent.Header{Type: kind, Session: session}, p)
	g.conn.Write(b)
}

// welcome makes the session connected.
func welcome(t *testing.T, s *Session, g *falseGuest) (session uint64) {
	t.Helper()
	h, _ := g.next(t, agent.TypeHello)
	g.send(agent.TypeWelcome, h.Session, agent.Welcome{Library: "false"}.Append(nil))
	until(t, "connected", connected(s))
	return h.Session
}

// timed asks for a still point and checks that it takes no longer than asked.
func timed(t *testing.T, s *Session, epoch uint64, deadline time.Duration) error {
	t.Helper()
	started := time.Now()
	_, err := s.Quiesce(context.Background(), epoch, deadline)
	// The slack is for the scheduler of a slow or loaded machine: what ignores its
	// deadline waits for ever.
	if took := time.Since(started); took > deadline+5*time.Second {
		t.Errorf("took %v, deadline %v", took, deadline)
	}
	return err
}

func TestNobodyThere(t *testing.T) {
	s, _ := host(t, Options{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("refused") }})
	expect(t, timed(t, s, 1, 0), ErrNoAgent)
	s.Resume(1, true, 1)
	if s.State().Presence != None {
		t.Error(s.State())
	}
}

// A guest that never says a word costs nothing at all.
func TestSilentGuest(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial})
	g := <-guests
	g.next(t, agent.TypeHello)
	expect(t, timed(t, s, 1, time.Hour), ErrNoAgent)
	if s.State().Presence != Silent {
		t.Error(s.State())
	}
}

// One that stops answering costs a few deadlines, then nothing, and is welcome
// when it speaks again.
func TestGuestFallsSilent(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial, Heartbeat: 10 * time.Millisecond})
	g := <-guests
	id := welcome(t, s, g)
	for epoch := range uint64(missesToSilent) {
		err := timed(t, s, epoch, 10*time.Millisecond)
		if !errors.Is(err, ErrDeadline) && !errors.Is(err, ErrNoAgent) {
			t.Fatal(err)
		}
		s.Resume(epoch, false, 1)
	}
	until(t, "silent", func() bool { return s.State().Presence == Silent })
	expect(t, timed(t, s, 9, time.Hour), ErrNoAgent)
	g.send(agent.TypePong, id, nil)
	until(t, "connected again", connected(s))
}

// Late and stale answers are nobody's, the same epoch asked twice included.
func TestLateAndStaleAnswers(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial})
	g := <-guests
	id := welcome(t, s, g)
	expect(t, timed(t, s, 5, 10*time.Millisecond), ErrDeadline)
	_, p := g.next(t, agent.TypeQuiesce)
	first, _ := agent.DecodeQuiesce(p)
	for _, session := range []uint64{id, id + 1, 0} {
		g.send(agent.TypeQuiescent, session, agent.Quiescent{Request: first.Request}.Append(nil))
	}
	answered := make(chan error, 1)
	go func() { answered <- timed(t, s, 5, 5*time.Second) }()
	_, p = g.next(t, agent.TypeQuiesce)
	second, _ := agent.DecodeQuiesce(p)
	g.send(agent.TypeQuiescent, id, agent.Quiescent{Request: first.Request}.Append(nil))
	g.send(agent.TypeQuiescent, id+1, agent.Quiescent{Request: second.Request}.Append(nil))
	g.send(agent.TypeQuiescent, id, agent.Quiescent{Request: second.Request + 1}.Append(nil))
	g.send(agent.TypeBusy, id, agent.Busy{Request: second.Request, Packets: 4}.Append(nil))
	if err := <-answered; !errors.Is(err, ErrBusy) { // and not "quiescent", by any of the others
		t.Error(err)
	}
}

func TestOneOutstanding(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial})
	g := <-guests
	welcome(t, s, g)
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() { _, err := s.Quiesce(ctx, 1, time.Minute); first <- err }()
	g.next(t, agent.TypeQuiesce)
	expect(t, timed(t, s, 2, time.Minute), ErrOutstanding)
	cancel()
	expect(t, <-first, context.Canceled)
}

// Garbage and floods of good frames: the deadline holds and memory stays.
func TestFloods(t *testing.T) {
	pong := func(id uint64) []byte {
		b, _ := agent.Append(nil, agent.Header{Type: agent.TypePong, Session: id}, nil)
		return b
	}
	for name, flood := range map[string]func(uint64) []byte{
		"garbage":      func(uint64) []byte { return []byte("SPAG garbage\x00\x01\x01\xff") },
		"half frames":  func(id uint64) []byte { return pong(id)[:agent.HeaderSize-1] },
		"good frames":  pong,
		"other people": func(id uint64) []byte { return pong(id + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			dial, guests := pair(t)
			s, stop := host(t, Options{Dial: dial})
			g := <-guests
			id := welcome(t, s, g)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				b := bytes.Repeat(flood(id), 1000)
				for {
					if _, err := g.conn.Write(b); err != nil {
						return
					}
				}
			}()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for epoch := range uint64(10) {
				if err := timed(t, s, epoch, 20*time.Millisecond); err == nil {
					t.Error("a still point out of nothing")
				}
				s.Resume(epoch, false, 1)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
				t.Errorf("grown by %d bytes", grown)
			}
			stop()
			<-ended
		})
	}
}

// A guest that reads nothing: no call blocks, and nothing piles up.
func TestGuestDoesNotRead(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial, Heartbeat: time.Millisecond})
	g := <-guests
	id := welcome(t, s, g)
	started := time.Now()
	const rounds = 2000
	for epoch := range uint64(rounds) {
		s.Quiesce(context.Background(), epoch, 0)
		s.Resume(epoch, false, 1)
		g.send(agent.TypePong, id, nil) // stays present
	}
	if took := time.Since(started); took > time.Minute {
		t.Errorf("%d rounds took %v", rounds, took)
	}
}

// A takeover is repeated until the guest confirms it, across connections.
func TestTakeoverUntilConfirmed(t *testing.T) {
	dial, guests := pair(t)
	s, _ := host(t, Options{Dial: dial, Heartbeat: time.Millisecond})
	s.Resume(4, true, 7)
	(<-guests).conn.Close()
	g := <-guests
	id := welcome(t, s, g)
	for range 3 {
		h, p := g.next(t, agent.TypeResume)
		r, err := agent.DecodeResume(p)
		if err != nil || !r.TakenOver || r.Generation != 7 || h.Epoch != 4 {
			t.Fatalf("%+v %+v %v", h, r, err)
		}
	}
	g.send(agent.TypeResumed, id, agent.Resumed{Expired: true}.Append(nil)) // no confirmation
	g.next(t, agent.TypeResume)
	g.send(agent.TypeResumed, id, agent.Resumed{}.Append(nil))
	until(t, "confirmed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.out.resume == nil
	})
}
