package lab

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Segment is one network: a bridge and the cables that end in it. Its methods
// may be called concurrently.
type Segment struct {
	Name   string
	space  *Space
	bridge netlink.Link

	mu     sync.Mutex
	cables []*Cable
	relay  *relay
}

// Cable joins one namespace with a segment. Its methods may be called
// concurrently.
type Cable struct {
	// Owner is the name of the host, cli or srv at its end; Port names the
	// interface at the segment's end.
	Owner, Port string
	segment     *Segment
	space       *Space
	far         string // the interface at the owner's end
	unplugged   bool   // guarded by segment.mu
}

func newSegment(space *Space, name string) (*Segment, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br-" + name
	// No spanning tree is the kernel's default, so ports forward as soon as
	// they are up. Snooping would keep multicast from a guest that just moved.
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := space.links.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", attrs.Name, err)
	}
	link, err := space.links.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", attrs.Name, err)
	}
	return &Segment{Name: name, space: space, bridge: link}, space.up(attrs.Name)
}

// plug lays a cable from the segment to a namespace, with an address there
// unless it is empty.
func (s *Segment) plug(owner string, space *Space, far, cidr string) (*Cable, error) {
	c := &Cable{Owner: owner, Port: owner + "-" + s.Name, segment: s, space: space, far: far}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.Port
	attrs.MasterIndex = s.bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = far, netlink.NsFd(space.handle)
	if err := s.space.links.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("lay cable %s: %w", c.Port, err)
	}
	if err := s.space.up(c.Port); err != nil {
		return nil, err
	}
	if err := space.up(far); err != nil {
		return nil, err
	}
	if cidr != "" {
		if err := space.address(far, cidr); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cables = append(s.cables, c)
	return c, nil
}

// Cut unplugs every cable: frames vanish, and no interface notices.
func (s *Segment) Cut() error { return s.each((*Cable).Unplug) }

// Restore undoes Cut, Shape, Rate, and Down and Unplug of all cables.
func (s *Segment) Restore() error {
	if err := s.Delay(0); err != nil {
		return err
	}
	return s.each((*Cable).Restore)
}

// Rate limits what each cable carries to its end, in bytes per second. Zero
// means no limit.
func (s *Segment) Rate(bytesPerSecond uint64) error {
	return s.each(func(c *Cable) error { return c.Rate(bytesPerSecond) })
}

// Delay makes every frame between the cables of the segment arrive later by d
// in each direction, and is a Shape with that alone. Zero means at once.
func (s *Segment) Delay(d time.Duration) error { return s.Shape(Shape{Delay: d}) }

// Shape makes what passes between the cables of the segment late, lost or out
// of order. It replaces what was said before, and loses what is on its way.
// The zero Shape lets everything pass at once.
func (s *Segment) Shape(shape Shape) error {
	if err := shape.check(); err != nil {
		return fmt.Errorf("shape segment %s: %w", s.Name, err)
	}
	if err := s.stopRelay(); err != nil || shape.none() {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cables {
		if err := c.detach(); err != nil {
			return err
		}
	}
	r, err := startRelay(s.space, s.ports(), shape)
	if err != nil {
		return errors.Join(err, s.attachPlugged())
	}
	for _, c := range s.cables {
		r.plugged(c.Port, !c.unplugged)
	}
	s.relay = r
	return nil
}

// stopRelay gives the cables back to the bridge.
func (s *Segment) stopRelay() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == nil {
		return nil
	}
	s.relay.stop()
	s.relay = nil
	return s.attachPlugged()
}

func (s *Segment) attachPlugged() error {
	for _, c := range s.cables {
		if c.unplugged {
			continue
		}
		if err := c.attach(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Segment) ports() []string {
	var names []string
	for _, c := range s.cables {
		names = append(names, c.Port)
	}
	return names
}

func (s *Segment) each(f func(*Cable) error) error {
	s.mu.Lock()
	cables := append([]*Cable(nil), s.cables...)
	s.mu.Unlock()
	for _, c := range cables {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// Unplug takes the cable out of the segment. Both its ends stay up: what is
// sent into it vanishes.
func (c *Cable) Unplug() error { return c.set(true) }

// Plug puts the cable back.
func (c *Cable) Plug() error { return c.set(false) }

func (c *Cable) set(unplugged bool) error {
	c.segment.mu.Lock()
	defer c.segment.mu.Unlock()
	c.unplugged = unplugged
	if r := c.segment.relay; r != nil {
		r.plugged(c.Port, !unplugged)
		return nil
	}
	if unplugged {
		return c.detach()
	}
	return c.attach()
}

func (c *Cable) attach() error {
	return c.change("plug in", func(link netlink.Link) error {
		return c.segment.space.links.LinkSetMaster(link, c.segment.bridge)
	})
}

func (c *Cable) detach() error {
	return c.change("unplug", c.segment.space.links.LinkSetNoMaster)
}

// Down takes the segment's end down: the owner's interface loses its carrier.
func (c *Cable) Down() error { return c.change("take down", c.segment.space.links.LinkSetDown) }

// Up undoes Down.
func (c *Cable) Up() error { return c.change("bring up", c.segment.space.links.LinkSetUp) }

// Restore undoes Down, Unplug and Rate.
func (c *Cable) Restore() error {
	if err := c.Rate(0); err != nil {
		return err
	}
	if err := c.Up(); err != nil {
		return err
	}
	return c.Plug()
}

// Rate limits what the cable carries towards its owner, in bytes per second.
// Zero means no limit.
func (c *Cable) Rate(bytesPerSecond uint64) error {
	return c.change("limit", func(link netlink.Link) error {
		links := c.segment.space.links
		qdisc := tokenBucket(link, bytesPerSecond)
		if bytesPerSecond > 0 {
			return links.QdiscReplace(qdisc)
		}
		err := links.QdiscDel(qdisc)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // there was none
			return nil
		}
		return err
	})
}

// tokenBucket allows bursts of 5 ms and queues at most 50 ms.
func tokenBucket(link netlink.Link, rate uint64) netlink.Qdisc {
	const minBurst = 128 << 10 // more than a 64 KiB segment
	burst := uint32(max(rate/200, minBurst))
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT,
			Handle: netlink.MakeHandle(1, 0)},
		Rate:   rate,
		Limit:  uint32(rate/20) + burst,
		Buffer: netlink.Xmittime(rate, burst),
	}
}

// Carried is how many bytes the owner has sent into the cable, with Ethernet's
// headers. A frame of TCP counts once, however large.
func (c *Cable) Carried() (bytes uint64, err error) {
	err = c.change("ask", func(link netlink.Link) error {
		bytes = link.Attrs().Statistics.RxBytes
		return nil
	})
	return bytes, err
}

func (c *Cable) change(what string, f func(netlink.Link) error) error {
	link, err := c.segment.space.links.LinkByName(c.Port)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("%s cable %s: %w", what, c.Port, err)
	}
	return nil
}
