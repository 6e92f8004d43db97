package quiesce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// Why there is no still point.
var (
	// ErrNoAgent says that nobody in the guest talks to us. It is returned at
	// once.
	ErrNoAgent = errors.New("no agent in the guest")
	// ErrDeadline says that no answer came in time.
	ErrDeadline = errors.New("the agent did not answer in time")
	// ErrBusy says that packets were still in the application at the deadline.
	ErrBusy = errors.New("the application did not come to rest in time")
	// ErrOutstanding says that another request has not been answered yet.
	ErrOutstanding = errors.New("another quiesce request is outstanding")
)

// Presence says whether there is somebody to talk to.
type Presence int

// The three cases.
const (
	None      Presence = iota // the channel is not connected
	Silent                    // connected, and nobody answers
	Connected                 // an agent answers
)

// String names the presence as the status shows it.
func (p Presence) String() string {
	switch p {
	case None:
		return "none"
	case Silent:
		return "silent"
	case Connected:
		return "connected"
	}
	return fmt.Sprintf("presence(%d)", int(p))
}

// State is what is known of the guest's end.
type State struct {
	Presence Presence
	Library  string           // version, as the guest says; empty if unknown
	Ports    []agent.PortInfo // of the application, as the guest says
}

// Options say how to reach the guest.
type Options struct {
	// Dial connects to the agent channel, e.g. the socket of QEMU's chardev.
	Dial func(ctx context.Context) (net.Conn, error)
	// Hold is how long the guest's gate may stay closed after a request before
	// it opens by itself, in the guest's own running time. Default 500 ms.
	Hold time.Duration
	// Heartbeat is how often the session looks after its connection; a guest
	// that is quiet for four heartbeats is pinged, for twelve it is silent.
	// Default 250 ms.
	Heartbeat time.Duration
}

func (o *Options) setDefaults() {
	if o.Hold <= 0 {
		o.Hold = 500 * time.Millisecond
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 250 * time.Millisecond
	}
}

const (
	missesToSilent = 3  // unanswered requests in a row
	quietToPing    = 4  // heartbeats
	quietToSilent  = 12 // heartbeats
	maxHellos      = 8  // unanswered ones; they pile up where nobody reads
)

// Answer is a still point.
type Answer struct {
	RxPackets []uint64      // per port, since the port was opened in the guest
	TxPackets []uint64      // likewise
	Took      time.Duration // from the request to its answer
}

// A Session is the host's end. Its methods are safe for concurrent use.
type Session struct {
	log     hclog.Logger
	options Options
	wake    chan struct{} // something to write

	// channel is held by whoever writes to the channel or dials it, and by a
	// checkpoint, during which nobody may. It is taken before mu.
	channel sync.Mutex
	written bool       // since the last checkpoint
	reading sync.Mutex // likewise, by whoever reads; taken after channel

	mu       sync.Mutex
	conn     net.Conn // nil: not connected
	open     bool     // the guest has been heard on this connection
	session  uint64   // 0: not connected
	presence Presence
	library  string
	ports    []agent.PortInfo
	request  uint64 // the last one
	waiter   *waiter
	asked    bool // since the guest last said that packets flow
	misses   int
	quiet    int // heartbeats since the guest was last heard
	hellos   int // since the guest was last heard
	out      outbox
}

// waiter is the one outstanding request.
type waiter struct {
	request uint64
	answer  chan outcome // capacity 1
}

type outcome struct {
	answer Answer
	err    error
}

// New returns a session that is not connected; [Session.Run] connects it.
func New(log hclog.Logger, o Options) *Session {
	o.setDefaults()
	return &Session{log: log, options: o, wake: make(chan struct{}, 1)}
}

// State returns what is known of the guest's end.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{Presence: s.presence, Library: s.library, Ports: s.ports}
}

// Quiesce asks for a still point for the checkpoint of an epoch and waits for
// it no longer than deadline. Errors are [ErrNoAgent], [ErrDeadline],
// [ErrBusy], [ErrOutstanding] and the context's. Call [Session.Resume] after
// the checkpoint whatever was returned.
func (s *Session) Quiesce(ctx context.Context, epoch uint64, deadline time.Duration) (Answer, error) {
	started := time.Now()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	w, err := s.ask(epoch, deadline)
	if err != nil {
		return Answer{}, err
	}
	select {
	case o := <-w.answer:
		o.answer.Took = time.Since(started)
		return o.answer, o.err
	case <-timer.C:
		s.giveUp(w, true)
		return Answer{}, fmt.Errorf("quiesce epoch %d within %v: %w", epoch, deadline, ErrDeadline)
	case <-ctx.Done():
		s.giveUp(w, false)
		return Answer{}, fmt.Errorf("quiesce epoch %d: %w", epoch, ctx.Err())
	}
}

func (s *Session) ask(epoch uint64, deadline time.Duration) (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.presence != Connected {
		return nil, ErrNoAgent
	}
	if s.waiter != nil {
		return nil, ErrOutstanding
	}
	s.request++
	s.asked = true
	s.waiter = &waiter{request: s.request, answer: make(chan outcome, 1)}
	s.out.quiesce = &quiesceFrame{epoch: epoch, Quiesce: agent.Quiesce{
		Request:  s.request,
		Deadline: guestDeadline(deadline),
		Hold:     s.options.Hold,
	}}
	s.stir()
	return s.waiter, nil
}

// guestDeadline leaves time for the guest's answer to arrive before ours.
func guestDeadline(d time.Duration) time.Duration {
	return d - min(d/4, 3*time.Millisecond)
}

// giveUp ends the wait of w, which nobody answered.
func (s *Session) giveUp(w *waiter, missed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiter != w {
		return
	}
	s.waiter = nil
	s.out.quiesce = nil // if not even written, it must not be now
	if !missed {
		return
	}
	if s.misses++; s.misses >= missesToSilent && s.presence == Connected {
		s.silence("requests unanswered")
	}
}

// silence is called with mu held.
func (s *Session) silence(why string) {
	s.log.Warn("agent is silent", "why", why)
	s.presence = Silent
	s.hellos = 0
}

// Resume lets packets flow in the guest. With takenOver it first runs the
// application's takeover callbacks; such a resume is repeated, across
// reconnections too, until the guest confirms it. Resume never blocks.
func (s *Session) Resume(epoch uint64, takenOver bool, generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !takenOver && !s.asked {
		return // nobody was asked to stop
	}
	s.out.resumed(epoch, s.request, takenOver, generation)
	s.hellos = 0
	s.stir()
}

// stir wakes the writer.
func (s *Session) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
