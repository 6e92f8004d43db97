package nemesis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// act breaks one thing.
type act struct {
	name string
	do   func(ctx context.Context) error
}

// plan of a round: disturbances, the fault, and how long to wait before it and
// before everything is healed.
type plan struct {
	acts         []act
	before, hold time.Duration
	wish         *wish // of an operator, in the midst of it; nil: none
}

func (p plan) String() string {
	var names []string
	for _, a := range p.acts {
		names = append(names, a.name)
	}
	if p.wish != nil {
		names = append(names, fmt.Sprintf("%v after the beginning %s", p.wish.after, p.wish.name))
	}
	return strings.Join(names, "; ")
}

// plan a round for a machine that runs on p with its standby on s.
func (n *nemesis) plan(p, s *lab.Host) plan {
	var chosen plan
	disturbances := n.disturbances(p, s)
	for range n.random.IntN(3) {
		i := n.random.IntN(len(disturbances))
		chosen.acts = append(chosen.acts, disturbances[i])
		disturbances = append(disturbances[:i], disturbances[i+1:]...)
	}
	faults := n.faultsOf(p, s)
	chosen.acts = append(chosen.acts, faults[n.random.IntN(len(faults))])
	chosen.before, chosen.hold = n.between(0, 700), n.between(100, 2500)
	chosen.wish = n.wishOf(p, s)
	return chosen
}

// between two numbers of milliseconds.
func (n *nemesis) between(least, most int) time.Duration {
	return time.Duration(least+n.random.IntN(most-least)) * time.Millisecond
}

// disturbances leave the pair whole.
func (n *nemesis) disturbances(p, s *lab.Host) []act {
	shape := func(name string, sh lab.Shape) act {
		sh.Seed = n.random.Uint64()
		return act{name, func(context.Context) error { return n.Link.Shape(sh) }}
	}
	return []act{
		shape("the link is slow (20 ms)", lab.Shape{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond}),
		shape("the link reorders", lab.Shape{Delay: time.Millisecond, Reorder: 0.1}),
		shape("the link loses packets", lab.Shape{Delay: time.Millisecond, Loss: 0.01}),
		{"the link is narrow (20 MB/s)", func(context.Context) error { return n.Link.Rate(20 << 20) }},
		{"the witness is killed", func(context.Context) error { _, err := n.Witness.Kill(); return ifRunning(err) }},
		{"the witness is stopped", func(context.Context) error { return ifRunning(n.Witness.Stop()) }},
		{"the primary loses the arbiter", func(context.Context) error { return p.Arb.Unplug() }},
		{"the standby loses the arbiter", func(context.Context) error { return s.Arb.Unplug() }},
		{"the arbiter loses its network", func(context.Context) error { return n.Arbiter.Cut() }},
		{"the primary's disk is full", func(context.Context) error { return p.FillState() }},
		{"the standby's disk is full", func(context.Context) error { return s.FillState() }},
		{"the primary's member of the arbiter is killed", func(context.Context) error { _, err := p.KillMember(); return ifRunning(err) }},
		{"the standby's member of the arbiter is killed", func(context.Context) error { _, err := s.KillMember(); return ifRunning(err) }},
		n.emptiedMember(p, s),
		{"the primary's supervisor is killed", func(context.Context) error { _, err := p.KillSupervisor(); return err }},
		{"the standby's supervisor is killed", func(context.Context) error { _, err := s.KillSupervisor(); return err }},
	}
}

// emptiedMember of the arbiter: its database is gone, it starts again and must take
// no part.
func (n *nemesis) emptiedMember(p, s *lab.Host) act {
	return [...]act{
		{"the primary's member of the arbiter is emptied", func(context.Context) error { return n.empty(p.EmptyMember, p.ReplaceMember) }},
		{"the standby's member of the arbiter is emptied", func(context.Context) error { return n.empty(s.EmptyMember, s.ReplaceMember) }},
		{"the witness's member of the arbiter is emptied", func(context.Context) error { return n.empty(n.Witness.EmptyMember, n.Witness.ReplaceMember) }},
	}[n.random.IntN(3)]
}

// faultsOf takes at most one copy of the machine away, or parts the hosts.
func (n *nemesis) faultsOf(p, s *lab.Host) []act {
	all := []act{
		{"the hosts lose each other", func(context.Context) error { return n.Link.Cut() }},
		{"the primary is cut off from everything but the networks", isolate(p)},
		{"the standby is cut off from everything but the networks", isolate(s)},
		{"the primary's QEMU is stopped", func(ctx context.Context) error { return n.stopped(ctx, p.StopQEMU(scene.Machine), s) }},
		{"the machine is switched over", func(ctx context.Context) error { n.ask(ctx, p, s, "switchover"); return nil }},
		{"an operator takes over", func(ctx context.Context) error { n.ask(ctx, s, p, "takeover"); return nil }},
		{"the primary's daemon and its supervisor are killed", func(context.Context) error {
			_, err := p.KillSupervisor()
			_, died := p.Kill()
			return errors.Join(ifRunning(err), died)
		}},
		{"both daemons are killed", func(context.Context) error { return orphan(p, s) }},
		{"both daemons are killed, and the machine's QEMU does not answer the next one", func(ctx context.Context) error { return n.deaf(ctx, p, s) }},
		{"both daemons are killed, and the next one fails to adopt the machine until it gives up", func(ctx context.Context) error { return n.unadoptable(ctx, p, s) }},
		n.skewed(s),
	}
	for _, label := range []string{fault.Storing, fault.Applying, fault.Applied} {
		all = append(all, n.crash(p, s, label, false))
	}
	for _, label := range []string{fault.Requested, fault.Quiescing, fault.Stopped, fault.Copying, fault.Copied, fault.Shipping, fault.Sent, fault.Committing} {
		all = append(all, n.crash(p, s, label, true))
	}
	for _, h := range []*lab.Host{p, s} {
		who, other := "primary", s
		if h == s {
			who, other = "standby", p
		}
		all = append(all,
			act{"the " + who + "'s QEMU is killed", func(context.Context) error { _, err := h.KillQEMU(scene.Machine); return err }},
			act{"the " + who + "'s daemon is killed", func(context.Context) error { _, err := h.Kill(); return err }},
			act{"the " + who + "'s daemon ends", func(context.Context) error { return h.Terminate() }},
			act{"the " + who + "'s host is killed", func(context.Context) error { _, err := h.KillAll(); return err }},
			act{"the " + who + "'s host loses power", func(context.Context) error { return n.powerOff(h) }},
			act{"the " + who + "'s daemon is stopped", func(ctx context.Context) error { return n.stopped(ctx, h.Stop(), other) }},
			act{"the " + who + "'s host is stopped", func(ctx context.Context) error { return n.stopped(ctx, h.StopAll(), other) }},
		)
	}
	return all
}

// ifRunning forgives that another disturbance came first.
func ifRunning(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func isolate(h *lab.Host) func(context.Context) error {
	return func(context.Context) error {
		if err := h.Link.Unplug(); err != nil {
			return err
		}
		return h.Arb.Unplug()
	}
}

// stopped waits, but not for long, until the other host has the machine alone.
func (n *nemesis) stopped(ctx context.Context, err error, other *lab.Host) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	_ = scene.Until(ctx, func() bool { role := n.role(ctx, other); return role != "standby" && role != "protected" })
	return nil
}

// ask for what may be refused: the arbiter may be out of reach.
func (n *nemesis) ask(ctx context.Context, h, _ *lab.Host, what string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if what == "takeover" {
		h.Takeover(ctx, scene.Machine)
		return
	}
	h.Switchover(ctx, scene.Machine)
}

func (n *nemesis) powerOff(h *lab.Host) error {
	n.dark[h.Name] = true
	_, err := h.PowerOff()
	return err
}

// skewed restarts the standby with another time of day and gives it the
// machine.
func (n *nemesis) skewed(s *lab.Host) act {
	by := []time.Duration{-45 * time.Minute, 3 * time.Hour, 400 * 24 * time.Hour}[n.random.IntN(3)]
	return act{fmt.Sprintf("the standby's clock is %v off", by), func(ctx context.Context) error {
		s.Skew(by)
		return n.restart(ctx, s)
	}}
}

// restart a host's daemon in good order.
func (n *nemesis) restart(ctx context.Context, h *lab.Host) error {
	if err := h.Terminate(); err != nil {
		return err
	}
	return h.Start(ctx, n.faults[h.Name].Env()...)
}

// crash kills the standby's daemon at a labelled step, of its own or, once it
// is the primary, of the primary.
func (n *nemesis) crash(p, s *lab.Host, label string, asPrimary bool) act {
	whose := "standby's"
	if asPrimary {
		whose = "primary's"
	}
	return act{"the " + whose + " daemon crashes at " + label, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
		defer cancel()
		f := n.faults[s.Name]
		f.Arm(label + "@30")
		defer f.Arm()
		if err := n.restart(ctx, s); err != nil {
			return err
		}
		hit := make(chan error, 1)
		go func() { // ends with ctx
			_, err := f.Await(ctx, label)
			hit <- err
		}()
		if asPrimary {
			n.switchTo(ctx, p, s)
		}
		<-hit // or it did not come so far: the arbiter may be out of reach
		_, err := s.Kill()
		return err
	}}
}

// switchTo moves the machine once the pair is whole.
func (n *nemesis) switchTo(ctx context.Context, p, s *lab.Host) {
	err := scene.Until(ctx, func() bool { return n.role(ctx, p) == "protected" && n.role(ctx, s) == "standby" })
	if err == nil {
		n.ask(ctx, p, s, "switchover")
	}
}

// orphan leaves the machine to the primary's next daemon: the standby's is the first
// that is killed, so that it does not take over.
func orphan(p, s *lab.Host) error {
	if _, err := s.Kill(); err != nil {
		return err
	}
	_, err := p.Kill()
	return err
}

// deaf lets the next daemon meet a QEMU that stands still: it cannot adopt it before
// everything is healed.
func (n *nemesis) deaf(ctx context.Context, p, s *lab.Host) error {
	if err := errors.Join(orphan(p, s), p.StopQEMU(scene.Machine)); err != nil {
		return err
	}
	if err := p.Start(ctx, n.faults[p.Name].Env()...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_ = scene.Until(ctx, func() bool { return n.role(ctx, p) == "left" })
	return nil
}

// unadoptable lets the next daemon find that somebody else has the QEMU's monitor,
// until it leaves the machine alone.
func (n *nemesis) unadoptable(ctx context.Context, p, s *lab.Host) error {
	if err := errors.Join(orphan(p, s), n.takeMonitor(p)); err != nil {
		return err
	}
	if err := p.Start(ctx, n.faults[p.Name].Env()...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.Pace.Limit(leftLimit))
	defer cancel()
	_ = scene.Until(ctx, func() bool {
		here := n.place(ctx, p)
		return here.stuck || here.answers && here.role != "left" // by an operator
	})
	return nil
}

// leftLimit is more than the ten tries of a daemon take.
const leftLimit = 20 * time.Second

// carryOut breaks what the plan says, while an operator does what it wishes.
func (n *nemesis) carryOut(ctx context.Context, p plan) error {
	wished := make(chan error, 1)
	go func() {
		defer close(wished)
		if p.wish != nil {
			rest(ctx, p.wish.after)
			wished <- p.wish.do(ctx)
		}
	}()
	broke := p.breakIt(ctx)
	return errors.Join(broke, <-wished, ctx.Err())
}

// breakIt does the plan's acts. What they mean may be gone where an operator acts too.
func (p plan) breakIt(ctx context.Context) error {
	for i, a := range p.acts {
		if i == len(p.acts)-1 {
			rest(ctx, p.before)
		}
		err := a.do(ctx)
		if p.wish != nil {
			err = ifRunning(err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	rest(ctx, p.hold)
	return nil
}

// rest is part of the plan: faults last for a while.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
