package agenttest

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// hold is for how long a still point may last; the agent's Config.MaxClosed is shorter.
const hold = 10 * time.Minute

var (
	// ErrNoAgent says that no agent answered for a minute.
	ErrNoAgent = errors.New("no agent answers")
	// ErrExpired says that packets had begun to flow by themselves, because the still
	// point lasted for Config.MaxClosed.
	ErrExpired = errors.New("the still point had ended by itself")
)

// A BusyError says that the deadline passed without a still point. Packets flow again.
type BusyError struct {
	Count guestagent.Count // what the program held then
}

// Error tells what was held.
func (e *BusyError) Error() string {
	return fmt.Sprintf("no still point: %d packets held, %d queues inside a receive call", e.Count.Held, e.Count.Busy)
}

// A StillPoint is a moment in which the program holds no packet.
type StillPoint struct {
	// Ports are in the order in which they were opened.
	Ports []Counters
}

// Counters are a port's packets since it was opened.
type Counters struct {
	Received uint64 // reached the port: handed out, waiting in it, or lost for want of room
	Sent     uint64 // by the program
}

// A Host is a fake of the host at the other end of an agent's channel. One agent at a time
// can be joined to it. Its methods may be called from anywhere, one at a time: each waits
// for the agent's answer.
type Host struct {
	work     sync.WaitGroup
	patience time.Duration // with an agent that is not there, or does not answer

	turn sync.Mutex // of Quiesce, Resume and TakeOver

	mu         sync.Mutex
	closed     bool
	end        *end // nil: no agent
	session    uint64
	request    uint64
	generation uint64
	expired    bool          // the still point of request
	answer     answer        // to what was asked last
	changed    chan struct{} // closed when something above has changed
}

// answer is a frame of the agent's that answers.
type answer struct {
	kind  agent.Type // 0: none yet
	point StillPoint
	busy  guestagent.Count
}

// NewHost returns a host that waits for an agent.
func NewHost() *Host {
	return &Host{patience: time.Minute, generation: 1, changed: make(chan struct{})}
}

// Open is for [guestagent.Config].Open: it joins an agent to the host. A former
// connection ends. It returns io.ErrClosedPipe once the host is closed.
func (h *Host) Open() (io.ReadWriteCloser, error) {
	ours, theirs := newChannel()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, io.ErrClosedPipe
	}
	if h.end != nil {
		h.end.Close()
	}
	h.end = ours
	h.greet()
	h.work.Add(1)
	go func() { defer h.work.Done(); h.listen(ours) }()
	return theirs, nil
}

// Close ends the connection with the agent, for which the gate opens when a still point
// has lasted for Config.MaxClosed.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	if h.end != nil {
		h.end.Close()
	}
	h.mu.Unlock()
	h.work.Wait()
	return nil
}

// greet begins a session, with mu held.
func (h *Host) greet() {
	h.session++
	h.request, h.expired, h.answer = 0, false, answer{}
	h.send(agent.TypeHello, nil)
	h.wake()
}

// send writes a frame, with mu held. One that cannot be written is not answered.
func (h *Host) send(t agent.Type, payload []byte) {
	frame, err := agent.Append(nil, agent.Header{Type: t, Session: h.session, Epoch: h.request}, payload)
	if err == nil && h.end != nil {
		_, _ = h.end.Write(frame)
	}
}

// wake has those look again who wait, with mu held.
func (h *Host) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// listen takes what the agent says, until the connection ends.
func (h *Host) listen(e *end) {
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		e.Close()
		if h.end == e {
			h.end = nil
		}
	}()
	for r := agent.NewReader(e); ; {
		header, payload, err := r.Next()
		if err != nil {
			return
		}
		h.mu.Lock()
		if header.Session == h.session {
			h.take(header.Type, payload)
			h.wake()
		}
		h.mu.Unlock()
	}
}

// take notes an answer, with mu held.
func (h *Host) take(t agent.Type, payload []byte) {
	switch t {
	case agent.TypeQuiescent:
		if q, err := agent.DecodeQuiescent(payload); err == nil && q.Request == h.request {
			point := StillPoint{Ports: make([]Counters, len(q.Ports))}
			for i, p := range q.Ports {
				point.Ports[i] = Counters{Received: p.Rx, Sent: p.Tx}
			}
			h.answer = answer{kind: t, point: point}
		}
	case agent.TypeBusy:
		if b, err := agent.DecodeBusy(payload); err == nil && b.Request == h.request {
			h.answer = answer{kind: t, busy: guestagent.Count{Held: b.Packets, Busy: b.Queues}}
		}
	case agent.TypeResumed:
		if r, err := agent.DecodeResumed(payload); err == nil && r.Request == h.request {
			h.expired = h.expired || r.Expired
			if !r.Expired {
				h.answer = answer{kind: t}
			}
		}
	}
}
