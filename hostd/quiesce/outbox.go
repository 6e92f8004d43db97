package quiesce

import "github.com/stillpoint-ft/stillpoint/proto/agent"

// outbox is what waits to be written: a slot per kind of frame, so that a
// channel that nobody empties costs no memory. A resume goes before a quiesce:
// a quiesce that a later resume overtakes is dropped.
type outbox struct {
	hello   bool
	ping    bool
	quiesce *quiesceFrame
	resume  *resumeFrame
	resend  bool // resume has to be written (again)
}

type quiesceFrame struct {
	epoch uint64
	agent.Quiesce
}

type resumeFrame struct {
	epoch uint64
	agent.Resume
}

// resumed puts a resume in its slot. A takeover that the guest has not
// confirmed stays one.
func (o *outbox) resumed(epoch, request uint64, takenOver bool, generation uint64) {
	r := &resumeFrame{epoch, agent.Resume{Request: request, TakenOver: takenOver, Generation: generation}}
	if o.resume != nil && o.resume.TakenOver && !takenOver {
		r.TakenOver, r.Generation = true, o.resume.Generation
	}
	o.resume, o.resend, o.quiesce = r, true, nil
}

// confirmed drops a resume that the guest has obeyed.
func (o *outbox) confirmed(request uint64) {
	if o.resume != nil && request >= o.resume.Request {
		o.resume, o.resend = nil, false
	}
}

// reconnected drops what belongs to an old session. Only a takeover outlives
// it: the gate of a guest that is not resumed opens by itself.
func (o *outbox) reconnected() {
	old := o.resume
	*o = outbox{hello: true}
	if old != nil && old.TakenOver {
		old.Request = 0
		o.resume, o.resend = old, true
	}
}

// next encodes the next frame into b; ok is false if there is none.
func (o *outbox) next(b []byte, session uint64) (frame []byte, ok bool) {
	var payload [32]byte
	h := agent.Header{Session: session}
	p := payload[:0]
	switch {
	case o.hello:
		o.hello, h.Type = false, agent.TypeHello
	case o.resume != nil && o.resend:
		o.resend, h.Type, h.Epoch = false, agent.TypeResume, o.resume.epoch
		p = o.resume.Append(p)
	case o.quiesce != nil:
		h.Type, h.Epoch = agent.TypeQuiesce, o.quiesce.epoch
		p = o.quiesce.Append(p)
		o.quiesce = nil
	case o.ping:
		o.ping, h.Type = false, agent.TypePing
	default:
		return b, false
	}
	frame, err := agent.Append(b, h, p)
	return frame, err == nil
}
