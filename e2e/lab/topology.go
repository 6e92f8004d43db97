package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// Names inside the namespaces of hosts, client and server.
const (
	UplinkIn  = "up-in"
	UplinkOut = "up-out"
	linkName  = "link"
	arbName   = "arb"
	endName   = "eth0"
)

func (l *Lab) makeSpaces(ctx context.Context) (err error) {
	if l.Net, err = l.space("net"); err != nil {
		return err
	}
	if l.Client, err = l.space("cli"); err != nil {
		return err
	}
	if l.Server, err = l.space("srv"); err != nil {
		return err
	}
	for number := 1; number <= l.options.Hosts; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.makeHost(number); err != nil {
			return err
		}
	}
	if l.options.etcd() {
		return l.makeWitness()
	}
	return nil
}

func (l *Lab) makeHost(number int) error {
	space, err := l.space("host" + hostName(number))
	if err != nil {
		return err
	}
	h, err := newHost(l, number, space)
	if err != nil {
		return err
	}
	l.Hosts = append(l.Hosts, h)
	l.cleanup.push("end host "+h.Name, h.end)
	return nil
}

func (l *Lab) makeWitness() error {
	space, err := l.space("host" + witnessName)
	if err != nil {
		return err
	}
	if l.Witness, err = newWitness(l, space); err != nil {
		return err
	}
	l.cleanup.push("end the witness", l.Witness.end)
	return nil
}

func (l *Lab) space(suffix string) (*Space, error) {
	s, err := newSpace(l.Name + "-" + suffix)
	if err != nil {
		return nil, err
	}
	l.cleanup.push("remove network namespace "+s.Name, s.remove)
	return s, nil
}

// connect lays the wires and waits until frames can pass.
func (l *Lab) connect(ctx context.Context) (err error) {
	if err := l.makeSegments(); err != nil {
		return err
	}
	if err := l.connectEnds(); err != nil {
		return err
	}
	for _, h := range l.Hosts {
		if err := l.connectHost(h); err != nil {
			return fmt.Errorf("connect host %s: %w", h.Name, err)
		}
	}
	if l.Witness != nil {
		if err := l.connectWitness(l.Witness); err != nil {
			return fmt.Errorf("connect the witness: %w", err)
		}
	}
	return l.awaitCarrier(ctx)
}

func (l *Lab) makeSegments() (err error) {
	if l.Inside, err = l.segment("in"); err != nil {
		return err
	}
	if l.Outside, err = l.segment("out"); err != nil {
		return err
	}
	if l.Link, err = l.segment("link"); err != nil {
		return err
	}
	if l.options.etcd() {
		l.Arbiter, err = l.segment("arb")
	}
	return err
}

func (l *Lab) segment(name string) (*Segment, error) {
	s, err := newSegment(l.Net, name)
	if err != nil {
		return nil, err
	}
	l.cleanup.push("restore the wires of segment "+name, s.stopRelay)
	return s, nil
}

func (l *Lab) connectEnds() error {
	if _, err := l.Inside.plug("cli", l.Client, endName, ClientAddress+"/24"); err != nil {
		return err
	}
	if err := l.Client.defaultRoute(NATInside); err != nil {
		return err
	}
	if _, err := l.Outside.plug("srv", l.Server, endName, ServerAddress+"/24"); err != nil {
		return err
	}
	return errors.Join(l.Client.keepNeighbours(endName), l.Server.keepNeighbours(endName))
}

func (l *Lab) connectHost(h *Host) (err error) {
	if h.In, err = l.Inside.plug(h.Name, h.Space, UplinkIn, ""); err != nil {
		return err
	}
	if h.Out, err = l.Outside.plug(h.Name, h.Space, UplinkOut, ""); err != nil {
		return err
	}
	for _, uplink := range []string{UplinkIn, UplinkOut} {
		link, err := h.Space.links.LinkByName(uplink)
		if err == nil {
			err = h.Space.links.SetPromiscOn(link)
		}
		if err != nil {
			return fmt.Errorf("set %s promiscuous: %w", uplink, err)
		}
	}
	if h.Link, err = l.Link.plug(h.Name, h.Space, linkName, h.Address+"/24"); err != nil {
		return err
	}
	h.cables = []*Cable{h.Link, h.In, h.Out}
	if l.Arbiter == nil {
		return nil
	}
	if h.Arb, err = l.plugArbiter(&h.Node, h.number); err != nil {
		return err
	}
	h.cables = append(h.cables, h.Arb)
	return nil
}

func (l *Lab) connectWitness(w *Witness) (err error) {
	w.Arb, err = l.plugArbiter(&w.Node, witnessNumber)
	w.cables = []*Cable{w.Arb}
	return err
}

func (l *Lab) plugArbiter(n *Node, number int) (*Cable, error) {
	return l.Arbiter.plug(n.Name, n.Space, arbName, arbiterAddress(number)+"/24")
}

func arbiterAddress(number int) string { return fmt.Sprintf("10.98.0.%d", number) }

// awaitCarrier waits until every port of every bridge forwards.
func (l *Lab) awaitCarrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting, err := l.notForwarding()
		if err != nil || waiting == "" {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("interface %s is not up: %w", waiting, ctx.Err())
		}
	}
}

func (l *Lab) notForwarding() (string, error) {
	links, err := l.Net.links.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return "", fmt.Errorf("list the interfaces of %s: %w", l.Net.Name, err)
	}
	for _, link := range links {
		a := link.Attrs()
		// Bridges themselves come up a second later: the kernel is in no
		// hurry with them, and forwarding does not need it.
		if link.Type() == "veth" && a.OperState != netlink.OperUp {
			return a.Name, nil
		}
	}
	return "", nil
}
