package quiesce

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
	writeLimit = time.Millisecond // a checkpoint may wait for it
)

// Run connects, and connects again whenever the connection ends, until the
// context does; it returns the context's error. Call it once.
func (s *Session) Run(ctx context.Context) error {
	retry := firstRetry
	for ctx.Err() == nil {
		conn, err := s.dial(ctx)
		if err != nil {
			if retry == firstRetry { // once, not once for each try
				s.log.Debug("agent channel not connected; trying again", "error", err)
			}
			pause(ctx, retry)
			retry = min(2*retry, lastRetry)
			continue
		}
		retry = firstRetry
		err = s.serve(ctx, conn)
		s.log.Debug("agent channel ended", "error", err)
		pause(ctx, firstRetry)
	}
	return ctx.Err()
}

func (s *Session) dial(ctx context.Context) (net.Conn, error) {
	s.channel.Lock()
	defer s.channel.Unlock()
	return s.options.Dial(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serve works one connection until it ends; nothing of it is left afterwards.
func (s *Session) serve(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := s.connected(conn); err != nil {
		cancel()
		return err
	}
	written := make(chan error, 1)
	go func() {
		defer cancel() // a failed writer ends the reader
		written <- s.write(ctx, conn)
	}()
	err := s.read(ctx, conn)
	cancel()
	conn.Close()
	err = errors.Join(err, <-written)
	s.disconnected()
	return err
}

// connected begins a new session.
func (s *Session) connected(conn net.Conn) error {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("draw a session number: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = binary.BigEndian.Uint64(b[:]) | 1 // never 0
	s.conn, s.open = conn, false
	s.presence, s.library, s.ports = Silent, "", nil
	s.request, s.asked, s.misses, s.quiet, s.hellos = 0, false, 0, 0, 0
	s.out.reconnected()
	s.stir()
	return nil
}

func (s *Session) disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session, s.presence, s.conn = 0, None, nil
	s.settle(outcome{err: ErrNoAgent})
}

// settle answers the outstanding request, if any; called with mu held.
func (s *Session) settle(o outcome) {
	if s.waiter != nil {
		s.waiter.answer <- o
		s.waiter = nil
	}
}

// write writes what the outbox has, one frame at a time. A frame that did not
// fit is finished before the next one.
func (s *Session) write(ctx context.Context, conn net.Conn) error {
	heartbeat := time.NewTicker(s.options.Heartbeat)
	defer heartbeat.Stop()
	var frame, rest []byte
	for {
		var err error
		if frame, rest, err = s.writeNext(conn, frame, rest); err != nil {
			return err
		}
		if len(rest) == 0 && len(frame) > 0 {
			continue
		}
		select {
		case <-s.wake:
		case <-heartbeat.C:
			s.beat()
		case <-ctx.Done():
			return nil
		}
	}
}

// writeNext writes on, or begins the next frame; frame is empty if there is
// none. It waits while a checkpoint keeps the channel still.
func (s *Session) writeNext(conn net.Conn, frame, rest []byte) ([]byte, []byte, error) {
	s.channel.Lock()
	defer s.channel.Unlock()
	if len(rest) == 0 {
		frame, rest = s.next(frame[:0])
	}
	if len(rest) == 0 {
		return frame[:0], nil, nil
	}
	n, err := writeSome(conn, rest)
	s.written = s.written || n > 0
	return frame, rest[n:], err
}

func (s *Session) next(b []byte) (frame, rest []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, ok := s.out.next(b, s.session)
	if !ok {
		return frame, nil
	}
	return frame, frame
}

// writeSome writes what the channel takes in a moment; that it takes nothing
// is no error.
func writeSome(conn net.Conn, b []byte) (int, error) {
	if err := conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return 0, fmt.Errorf("write to agent channel: %w", err)
	}
	n, err := conn.Write(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, fmt.Errorf("write to agent channel: %w", err)
	}
	return n, nil
}

// beat looks after the connection.
func (s *Session) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet++
	if s.presence == Connected && s.quiet > quietToSilent {
		s.silence("pings unanswered")
	}
	switch {
	case unread(s.conn) > 0: // nobody takes what is there already
	case s.presence == Connected:
		s.out.ping = s.quiet >= quietToPing
		s.out.resend = s.out.resume != nil
	case s.hellos < maxHellos:
		s.hellos++
		s.out.hello = true
		s.out.resend = s.out.resume != nil
	}
}

// read obeys the guest's frames until the connection ends.
func (s *Session) read(ctx context.Context, conn net.Conn) error {
	r := agent.NewReader(&throttle{r: newStillReader(conn, &s.reading), done: ctx.Done(), log: s.log})
	for {
		h, payload, err := r.Next()
		if err != nil {
			return err
		}
		s.heard(h, payload)
	}
}

// heard obeys one frame. What is malformed or of another session changes
// nothing.
func (s *Session) heard(h agent.Header, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	if h.Type == agent.TypeWelcome && h.Session != s.session {
		s.out.hello = true // the guest's end has just opened
		s.stir()
		return
	}
	if h.Session != s.session || !s.obey(h.Type, payload) {
		return
	}
	s.quiet, s.misses, s.hellos = 0, 0, 0
	if s.presence != Connected {
		s.log.Info("agent answers", "library", s.library, "ports", len(s.ports))
		s.presence = Connected
	}
}

// obey is called with mu held; it says whether the frame makes sense.
func (s *Session) obey(t agent.Type, payload []byte) bool {
	switch t {
	case agent.TypeWelcome:
		w, err := agent.DecodeWelcome(payload)
		if err != nil {
			return false
		}
		s.library, s.ports = w.Library, w.Ports
		s.out.resend = s.out.resume != nil
		s.stir()
	case agent.TypeQuiescent:
		q, err := agent.DecodeQuiescent(payload)
		if err != nil {
			return false
		}
		s.answered(q.Request, outcome{answer: answerOf(q)})
	case agent.TypeBusy:
		b, err := agent.DecodeBusy(payload)
		if err != nil {
			return false
		}
		s.answered(b.Request, outcome{err: fmt.Errorf("%w: %d packets in it, %d queues receiving", ErrBusy, b.Packets, b.Queues)})
	case agent.TypeResumed:
		r, err := agent.DecodeResumed(payload)
		if err != nil {
			return false
		}
		s.flowing(r)
	case agent.TypePong:
	default:
		return false // the host's own frames, sent back
	}
	return true
}

// answered settles the outstanding request if it is the one.
func (s *Session) answered(request uint64, o outcome) {
	if s.waiter != nil && s.waiter.request == request {
		s.settle(o)
	}
}

// flowing notes that the guest's gate is open.
func (s *Session) flowing(r agent.Resumed) {
	if r.Expired {
		s.log.Warn("the guest's gate opened by itself", "request", r.Request)
		return
	}
	s.out.confirmed(r.Request)
	if s.out.resume == nil && s.waiter == nil && r.Request == s.request {
		s.asked = false
	}
}

func answerOf(q agent.Quiescent) Answer {
	a := Answer{RxPackets: make([]uint64, len(q.Ports)), TxPackets: make([]uint64, len(q.Ports))}
	for i, p := range q.Ports {
		a.RxPackets[i], a.TxPackets[i] = p.Rx, p.Tx
	}
	return a
}
