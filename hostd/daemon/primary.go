package daemon

import (
	"context"
	"errors"
	"net"

	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/primary"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// startProtection connects to the standby and has it prepare; the answer is an event.
func (g *guest) startProtection(peer string) {
	g.state.SetPeer(peer)
	g.slot = g.d.slots.Take()
	o := primary.Options{Host: g.d.config.Host, Peer: peer, Machine: g.spec,
		Policy:    primary.PolicyOf(g.spec.Protection, g.slot, g.d.started),
		Detection: g.d.config.Detection, Limits: g.d.config.Limits, Compression: g.d.config.Link, Stream: g.d.streamLimits(g.spec),
		Gate: g.gate, QEMU: g.qemu, State: g.state,
		Ready: g.hasLeftCOLO, Dial: func(ctx context.Context) (net.Conn, error) { return g.d.dial(ctx, peer) },
		Release: g.releaseUntil, PassUntil: g.passUntil, PassNoMore: g.passNoMore,
		Holds: func(ctx context.Context, generation uint64) (bool, error) {
			return g.d.voices.Holds(ctx, g.name, generation)
		},
		LinksThere: g.setLinksThere,
		Post:       g.postWhile, Publish: g.publish, Faults: g.d.faults, Log: g.log}
	if g.agent != nil { // a nil one would be no nil interface
		o.Agent = g.agent
	}
	if g.d.accel == machine.TCG {
		o.RAMFile, o.RAMBlock = g.qemu.RAMFile(), machine.RAMBlock
	}
	g.protection = primary.Start(g.ctx, o)
}

var errLeaving = errors.New("the guest has not left its last pair's COLO yet: its QEMU does not answer")

func (g *guest) hasLeftCOLO() error {
	if g.leaving.Load() {
		return errLeaving
	}
	return nil
}

// dial a peer of the configuration.
func (d *Daemon) dial(ctx context.Context, peer string) (net.Conn, error) {
	address, err := d.peerAddress(peer)
	if err != nil {
		return nil, err
	}
	return d.network.Dial(ctx, peer, address)
}

// release lets a committed epoch's output go. It reports false where the door is closed.
func (g *guest) release(epoch uint64) (spoken bool) {
	if g.protection == nil {
		return true
	}
	return g.protection.Release(epoch, g.role.Generation())
}

// endInput passes on what has arrived, and says so.
func (g *guest) endInput() {
	g.gate.DrainInput()
	if p := g.protection; p != nil {
		p.EndInput()
	}
	g.tell(replica.Header{Type: replica.TypeInputEnd}, nil)
}

// stopProtection ends the protection and waits for it. The guest may be left
// stopped in COLO: leaveCOLO frees it.
func (g *guest) stopProtection() {
	p := g.protection
	if p == nil {
		return
	}
	g.protection = nil
	p.Stop()
	g.d.slots.Leave(g.slot)
	g.setLinksThere(nil)
	g.state.SetPeer("")
}

func (g *guest) peerLink() *link.Link {
	switch {
	case g.protection != nil:
		return g.protection.Link()
	case g.standby != nil:
		return g.standby.Link()
	}
	return nil
}
