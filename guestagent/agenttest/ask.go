package agenttest

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// Quiesce asks for a still point: packets that arrive wait in the devices, and once the
// program holds none, Quiesce returns, and none flow until Resume. A program that still
// holds packets at the deadline, or at Config.MaxClosed if that is sooner, is a [BusyError].
// Without an agent it waits for one; ErrNoAgent says that none answered.
func (h *Host) Quiesce(deadline time.Duration) (StillPoint, error) {
	h.turn.Lock()
	defer h.turn.Unlock()
	a, err := h.ask(deadline, func() {
		h.request++
		h.expired = false
		h.send(agent.TypeQuiesce, agent.Quiesce{Request: h.request, Deadline: deadline, Hold: hold}.Append(nil))
	}, agent.TypeQuiescent, agent.TypeBusy)
	if err != nil {
		return StillPoint{}, fmt.Errorf("ask for a still point: %w", err)
	}
	if a.kind == agent.TypeBusy {
		return StillPoint{}, &BusyError{Count: a.busy}
	}
	return a.point, nil
}

// Resume lets packets flow again, and returns when they do. ErrExpired says that they did
// before.
func (h *Host) Resume() error {
	h.turn.Lock()
	defer h.turn.Unlock()
	_, err := h.ask(0, func() {
		h.send(agent.TypeResume, agent.Resume{Request: h.request, Generation: h.generation}.Append(nil))
	}, agent.TypeResumed)
	if err == nil && h.isExpired() {
		err = ErrExpired
	}
	if err != nil {
		return fmt.Errorf("let packets flow: %w", err)
	}
	return nil
}

// TakeOver tells the agent that the machine runs on another host than before, with the
// next generation, which begins at 2. It returns when the callbacks of OnTakeover have
// returned, or have had Config.TakeoverLimit, and packets flow. Memory is as it was: what
// the program did after the last still point is not undone.
func (h *Host) TakeOver() error {
	h.turn.Lock()
	defer h.turn.Unlock()
	_, err := h.ask(0, func() {
		h.greet()
		h.generation++
		h.send(agent.TypeResume, agent.Resume{TakenOver: true, Generation: h.generation}.Append(nil))
	}, agent.TypeResumed)
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	return nil
}

func (h *Host) isExpired() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expired
}

// ask says something, with mu held, once there is an agent, and waits for one of the
// answers: for patience beyond what the agent may take. An agent that comes back in the
// midst of it has a new session, and does not answer.
func (h *Host) ask(limit time.Duration, say func(), kinds ...agent.Type) (answer, error) {
	timer := time.NewTimer(limit + h.patience)
	defer timer.Stop()
	said := false
	for {
		h.mu.Lock()
		if !said && h.end != nil {
			h.answer = answer{}
			say()
			said = true
		}
		a, changed := h.answer, h.changed
		h.mu.Unlock()
		for _, kind := range kinds {
			if said && a.kind == kind {
				return a, nil
			}
		}
		select {
		case <-changed:
		case <-timer.C:
			return answer{}, ErrNoAgent
		}
	}
}
