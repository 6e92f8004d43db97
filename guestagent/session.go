package guestagent

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// session is the guest's end of the session with the host, without clock,
// goroutine or I/O: events go in with the time at which they happened, effects
// come out and are to be carried out in order.
//
// Frames of another session than the host's last Hello, and requests not newer
// than the last one, change nothing: the channel keeps old bytes.
type session struct {
	maxClosed time.Duration // whatever the host says
	callbacks time.Duration // limit for the takeover callbacks

	phase      phase
	id         uint64 // of the session, drawn by the host
	request    uint64 // the last one in the session
	epoch      uint64
	generation uint64    // of the last takeover, whichever session told of it
	revived    bool      // there was one in the session
	due        time.Time // of the phase; zero: none
	opens      time.Time // when a still point ends by itself
	stale      uint64    // frames that changed nothing
}

type phase int

const (
	flowing  phase = iota // the gate is open
	settling              // closed, packets still in the application
	still                 // closed, and the host knows
	reviving              // closed, takeover callbacks run
)

type effectKind int

const (
	closeGate effectKind = iota
	openGate
	send        // a frame
	runTakeover // the callbacks, and report revived
)

type effect struct {
	kind       effectKind
	frame      agent.Type
	payload    []byte
	generation uint64
}

func reply(t agent.Type, payload []byte) effect {
	return effect{kind: send, frame: t, payload: payload}
}

// heard obeys a frame from the host.
func (s *session) heard(now time.Time, h agent.Header, payload []byte, welcome agent.Welcome) []effect {
	if h.Type == agent.TypeHello {
		return s.hello(h, welcome)
	}
	if h.Session != s.id || s.id == 0 {
		s.stale++
		return nil
	}
	switch h.Type {
	case agent.TypePing:
		return []effect{reply(agent.TypePong, nil)}
	case agent.TypeQuiesce:
		if q, err := agent.DecodeQuiesce(payload); err == nil {
			return s.quiesce(now, h.Epoch, q)
		}
	case agent.TypeResume:
		if r, err := agent.DecodeResume(payload); err == nil {
			return s.resume(now, r)
		}
	}
	s.stale++
	return nil
}

// hello does not open the gate: if this is a takeover, its resume is next, and
// its callbacks come before packets. If none comes the gate opens by itself.
func (s *session) hello(h agent.Header, welcome agent.Welcome) []effect {
	if h.Session != s.id {
		s.id, s.request = h.Session, 0
	}
	return []effect{reply(agent.TypeWelcome, welcome.Append(nil))}
}

func (s *session) quiesce(now time.Time, epoch uint64, q agent.Quiesce) []effect {
	if q.Request <= s.request {
		s.stale++
		return nil
	}
	s.request, s.epoch = q.Request, epoch
	if s.phase == reviving {
		return []effect{reply(agent.TypeBusy, agent.Busy{Request: q.Request}.Append(nil))}
	}
	s.phase = settling
	s.due = now.Add(min(q.Deadline, s.maxClosed))
	s.opens = now.Add(min(max(q.Hold, q.Deadline), s.maxClosed))
	return []effect{{kind: closeGate}}
}

// quiescent says that with the gate closed no packet is in the application.
func (s *session) quiescent(ports []agent.PortCounters) []effect {
	if s.phase != settling {
		return nil
	}
	s.phase, s.due = still, s.opens
	return []effect{reply(agent.TypeQuiescent, agent.Quiescent{Request: s.request, Ports: ports}.Append(nil))}
}

// resume opens the gate, unless it is older than the last request.
func (s *session) resume(now time.Time, r agent.Resume) []effect {
	if r.TakenOver && !(s.revived && s.generation == r.Generation) {
		s.revived, s.generation = true, r.Generation
		s.phase, s.due = reviving, now.Add(s.callbacks)
		return []effect{{kind: closeGate}, {kind: runTakeover, generation: r.Generation}}
	}
	if s.phase == reviving {
		return nil // confirmed when it is done
	}
	if r.Request < s.request {
		s.stale++
		return s.confirmAgain(r)
	}
	return s.flow(false)
}

// confirmAgain answers a takeover that the host repeats because our answer was
// lost. The gate is a newer request's by now.
func (s *session) confirmAgain(r agent.Resume) []effect {
	if !r.TakenOver {
		return nil
	}
	return []effect{reply(agent.TypeResumed, agent.Resumed{Request: r.Request}.Append(nil))}
}

// revivedDone says that the takeover callbacks of a generation have returned.
func (s *session) revivedDone(generation uint64) []effect {
	if s.phase != reviving || generation != s.generation {
		return nil
	}
	return s.flow(false)
}

// flow opens the gate and tells the host.
func (s *session) flow(expired bool) []effect {
	s.phase, s.due = flowing, time.Time{}
	return []effect{
		{kind: openGate},
		reply(agent.TypeResumed, agent.Resumed{Request: s.request, Expired: expired}.Append(nil)),
	}
}

// tick looks at the clock; count is how far from a still point the application
// is.
func (s *session) tick(now time.Time, count Count) []effect {
	if s.due.IsZero() || now.Before(s.due) {
		return nil
	}
	switch s.phase {
	case settling:
		s.phase, s.due = flowing, time.Time{}
		busy := agent.Busy{Request: s.request, Packets: count.Held, Queues: count.Busy}
		return []effect{{kind: openGate}, reply(agent.TypeBusy, busy.Append(nil))}
	case still:
		return s.flow(true)
	case reviving: // the callbacks hang; the host gets its answer all the same
		return s.flow(false)
	}
	s.due = time.Time{}
	return nil
}
