package nemesis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	voices "github.com/stillpoint-ft/stillpoint/hostd/voice"
)

// wish is what an operator does while other things break. It may be refused, or
// stay without an answer: nothing is concluded from an error.
type wish struct {
	act
	after time.Duration // the round's beginning
	on    string        // the host on which a stopped machine is started again
}

// callLimit is how long an operator waits for an answer in the midst of faults.
const callLimit = 8 * time.Second

// wishOf an operator, in half of the rounds.
func (n *nemesis) wishOf(p, s *lab.Host) *wish {
	asks, all := n.random.IntN(2) == 0, n.wishes(p, s)
	chosen, after, on := all[n.random.IntN(len(all))], n.between(0, 1500), [...]*lab.Host{p, s}[n.random.IntN(2)]
	if !asks {
		return nil
	}
	return &wish{chosen, after, on.Name}
}

func (n *nemesis) wishes(p, s *lab.Host) []act {
	call := func(name string, do func(context.Context) error) act {
		return act{name, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			_ = do(ctx)
			return nil
		}}
	}
	only := func(_ any, err error) error { return err }
	return []act{
		call("the machine is switched over", func(ctx context.Context) error { return only(p.Switchover(ctx, scene.Machine)) }),
		call("the standby is told to take over", func(ctx context.Context) error { return only(s.Takeover(ctx, scene.Machine)) }),
		call("the protection is ended", func(ctx context.Context) error { return only(p.Unprotect(ctx, scene.Machine)) }),
		call("the protection is ended and made anew", func(ctx context.Context) error {
			if _, err := p.Unprotect(ctx, scene.Machine); err != nil {
				return err
			}
			return only(p.Protect(ctx, scene.Machine, s.Name))
		}),
		call("the standby is stopped", func(ctx context.Context) error { return only(s.StopMachine(ctx, scene.Machine)) }),
		{"the machine is stopped", func(ctx context.Context) error { return n.stopMachine(ctx, p) }},
		{"the standby is told to take over, and the machine is stopped there meanwhile", func(ctx context.Context) error {
			took := make(chan struct{})
			go func() {
				defer close(took)
				n.ask(ctx, s, p, "takeover")
			}()
			defer func() { <-took }()
			return n.stopAtTakeover(ctx, s)
		}},
		{"the machine is stopped where it is taken over", func(ctx context.Context) error { return n.stopAtTakeover(ctx, s) }},
		{"the machine is stopped where the arbiter is out of reach", func(ctx context.Context) error {
			if err := p.Arb.Unplug(); err != nil {
				return err
			}
			return n.stopMachine(ctx, p)
		}},
		{"the machine is stopped, and started on the same host", func(ctx context.Context) error { return n.restartMachine(ctx, p, p) }},
		{"the machine is stopped, and started on the other host", func(ctx context.Context) error { return n.restartMachine(ctx, p, s) }},
	}
}

// stopMachine asks a host to. Where it says that the machine is stopped it has to be
// silent from then on, and a machine that is started later knows nothing of this one.
func (n *nemesis) stopMachine(ctx context.Context, h *lab.Host) error {
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if _, err := h.StopMachine(call, scene.Machine); err != nil {
		return nil
	}
	n.silent = stopped{h.Name, time.Now()}
	return n.judgeLife(ctx)
}

// stopAtTakeover waits, but not for long, until a standby takes the machine over, and
// has it stopped then.
func (n *nemesis) stopAtTakeover(ctx context.Context, h *lab.Host) error {
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	tick := time.NewTicker(takeoverTick)
	defer tick.Stop()
	for {
		switch n.role(call, h) {
		case "taking-over", "solo":
			return n.stopMachine(ctx, h)
		}
		select {
		case <-tick.C:
		case <-call.Done():
			return nil
		}
	}
}

// takeoverTick is often enough to meet a takeover, which takes some hundred
// milliseconds.
const takeoverTick = 5 * time.Millisecond

// restartMachine stops it on one host and starts it on another at once.
func (n *nemesis) restartMachine(ctx context.Context, from, to *lab.Host) error {
	if err := n.stopMachine(ctx, from); err != nil || n.silent.host == "" {
		return err
	}
	if err := n.judgeSilence(ctx); err != nil {
		return err
	}
	_ = n.startMachine(ctx, to)
	return nil
}

// startMachine on a host; it may be refused.
func (n *nemesis) startMachine(ctx context.Context, h *lab.Host) error {
	ctx, cancel := context.WithTimeout(ctx, n.Pace.Limit(callLimit))
	defer cancel()
	_, err := h.StartMachine(ctx, n.NAT())
	return err
}

// startSomewhere starts a machine of which nothing is left: where it was wished, or, where
// the refusal says that another host has the voice, on that one.
func startSomewhere[H any](wished, other H, start func(H) error) {
	if err := start(wished); err != nil && strings.Contains(err.Error(), voices.ErrHeld.Error()) {
		_ = start(other)
	}
}

// stopped tells which host has said when that it has stopped the machine.
type stopped struct {
	host string
	at   time.Time
}

// judgeSilence checks, before the machine is started anew, that the host that has
// stopped it said nothing since.
func (n *nemesis) judgeSilence(ctx context.Context) error {
	s := n.silent
	if n.silent = (stopped{}); s.host == "" {
		return nil
	}
	if err := n.Wire.Settle(ctx); err != nil {
		return err
	}
	runs, _, err := n.Wire.Voices(s.at, n.macs...)
	if err != nil {
		return err
	}
	if text := s.broken(runs); text != "" {
		n.find(n.now, "%s", text)
	}
	return nil
}

// broken silence; empty if it was kept. What others say is judged like everybody's
// voice.
func (s stopped) broken(runs []lab.VoiceRun) string {
	for _, r := range runs {
		if r.Host == s.host {
			return fmt.Sprintf("host %s has stopped the machine at %s, and sent %d of its frames at %s", s.host,
				s.at.Format("15:04:05.000"), r.Frames, r.First.Format("15:04:05.000"))
		}
	}
	return ""
}
