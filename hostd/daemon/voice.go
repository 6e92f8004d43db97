package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/standby"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
)

// Only this file lets output leave, and only through the guest's door. What a door
// that a stop has closed refuses is kept, for the case that the stop is refused.

// speaks carries out an effect that lets output leave.
func (g *guest) speaks(effect pair.Effect) {
	spoken := false
	switch e := effect.(type) {
	case pair.PassOutput:
		g.endCheckpoints()
		spoken = g.door.Speak(g.gate.Pass)
	case pair.Release:
		spoken = g.release(e.Epoch)
	case pair.GoLive:
		spoken = g.goLive()
	}
	if !spoken {
		g.log.Warn("output does not leave: the machine is to stop, or another host has the voice", "effect", fmt.Sprintf("%T", effect))
		g.kept = append(g.kept, effect)
	}
}

// releaseUntil lets a committed epoch's output leave until the deadline. Where the
// door is closed nothing does, and spoken is false.
func (g *guest) releaseUntil(epoch uint64, until time.Time) (all, spoken bool) {
	spoken = g.door.Speak(func() { all = g.gate.Release(epoch, until) })
	return all, spoken
}

func (g *guest) passNoMore() { g.gate.PassUntil(time.Time{}) }

// passUntil lets output that is not held for its commit leave until then.
func (g *guest) passUntil(until time.Time) {
	g.door.Speak(func() { g.gate.PassUntil(until) })
}

// announceAgain tells the network where the machine is, if it still is here.
func (g *guest) announceAgain() {
	g.door.Speak(func() {
		if err := g.gate.AnnounceAgain(); err != nil {
			g.log.Error("addresses not announced", "error", err)
		}
	})
}

// beginToSpeak is what a takeover lets leave: its addresses, committed output that
// the old primary may not have sent, then everything.
func (g *guest) beginToSpeak(s *standby.Session) bool {
	return g.door.Speak(func() {
		if err := g.gate.Announce(); err != nil {
			g.log.Error("addresses not announced", "error", err)
		}
		if err := s.Resend(); err != nil {
			g.log.Error("committed output not sent again", "error", err)
		}
		g.gate.Pass()
	})
}

// claim asks the arbiter, once, and answers with what it said. The door hears of it
// before the role machine does.
func (g *guest) claim(c pair.Claim) {
	stands, err := g.d.voices.Claim(g.ctx, claimOf(g.d.config.Host, g.name, c), claimLimit, func() { g.state.Claims(string(c.Kind)) })
	lost := errors.As(err, new(*arbiter.LostError))
	if err == nil || lost {
		g.door.Stands(stands)
	}
	switch {
	case err == nil:
		g.state.Answered()
		g.log.Info("arbiter granted", "claim", c.Kind, "generation", stands.Generation)
		g.post(pair.Granted{Generation: stands.Generation})
	case lost:
		g.denied(c, stands)
	default:
		if g.state.Undecided(err.Error()) {
			g.log.Error("arbiter silent", "claim", c.Kind, "error", err)
		}
		g.post(pair.ArbiterSilent{Why: err.Error(), NotMade: !errors.Is(err, arbiter.ErrOutcomeUnknown)})
	}
}

// denied by a record that is later than what was known, or by an arbiter that has lost
// some: that decides nothing, and is asked again.
func (g *guest) denied(c pair.Claim, stands arbiter.Record) {
	news := true
	if stands.Generation <= c.Expect {
		news = g.state.Undecided(fmt.Sprintf("it says generation %d, and %d was known: it has lost its records, or is not the one that was asked before", stands.Generation, c.Expect))
	} else {
		g.state.Answered()
	}
	if news {
		g.log.Warn("arbiter denied", "claim", c.Kind, "voice", stands.Voice, "generation", stands.Generation)
	}
	g.post(pair.Denied{Holder: stands.Voice, Generation: stands.Generation})
}

// claimOf a role machine on this host.
func claimOf(host, machine string, c pair.Claim) voice.Claim {
	v := voice.Claim{Machine: machine, Kind: string(c.Kind), Host: host, Expect: c.Expect, Other: c.Standby}
	if c.Kind == pair.ClaimReturn {
		v.Other = c.Voice
	}
	return v
}

// stop is an operator's wish to end a machine here, and what becomes of it.
type stop struct {
	waits chan string      // why the arbiter has not answered, once
	done  chan pair.Effect // pair.StopRefused or pair.Stopped, once
}

// stop shuts the door first of all, whatever the role: from here on only a proven
// refusal lets anything leave. It is called by one at a time, who has reserved the
// machine's name.
func (g *guest) stop() *stop {
	s := &stop{waits: make(chan string, 1), done: make(chan pair.Effect, 1)}
	g.door.Stop()
	g.gate.Hold()
	g.stopping.Store(s)
	g.post(pair.Stop{})
	return s
}

// toldOfStop passes on what becomes of it.
func (g *guest) toldOfStop(effect pair.Effect) {
	s := g.stopping.Load()
	switch e := effect.(type) {
	case pair.StopWaits:
		select {
		case s.waits <- e.Why:
		default:
		}
		return
	case pair.StopRefused:
		g.stopping.Store(nil)
		g.door.Resume()
		g.door.Speak(g.gate.Unhold) // as before the stop; what passes follows
		kept := g.kept
		g.kept = nil
		for _, k := range stillDue(kept, g.role.Role()) {
			g.speaks(k)
		}
	}
	s.done <- effect
}

// stillDue is what a stop's door has refused and may leave in the present role: a machine
// that has come to be protected meanwhile says nothing that is not committed.
func stillDue(kept []pair.Effect, role pair.Role) (due []pair.Effect) {
	for _, effect := range kept {
		if _, all := effect.(pair.PassOutput); !all || role != pair.Protected {
			due = append(due, effect)
		}
	}
	return due
}

// finishStop ends what is left here of a machine that nobody speaks for any more, or
// another host.
func (d *Daemon) finishStop(g *guest, outcome pair.Effect) error {
	if r, ok := outcome.(pair.StopRefused); ok {
		return fmt.Errorf("the arbiter was not asked (%s); the machine was not stopped and goes on", r.Why)
	}
	g.remove()
	d.forget(g.name)
	g.publish(status.Event{Kind: status.Stopped, Message: "QEMU was ended"})
	if s, ok := outcome.(pair.Stopped); ok && s.Heir != "" {
		return fmt.Errorf("host %s runs machine %s since; what was here has ended", s.Heir, g.name)
	}
	return nil
}
