package gate

import (
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
)

// Link is what is known of one end of a port's wire.
type Link struct {
	Port, Name string
	Tap        bool // of QEMU; else the uplink
	// State is up, down (by an operator), no carrier, or gone. A tap has a carrier as
	// long as its QEMU lives, and one that is gone stays so: its QEMU cannot take another.
	State string
	Since time.Time // it has been so
}

// Up says that frames can pass it.
func (l Link) Up() bool { return l.State == rtnetlink.Up }

// Gone says that the interface is no more.
func (l Link) Gone() bool { return l.State == rtnetlink.Gone }

// Kind of link: a tap or an uplink.
func (l Link) Kind() string {
	if l.Tap {
		return "tap"
	}
	return "uplink"
}

// knownLink is a link's state, which who watches it sets and others look at.
type knownLink struct {
	mu   sync.Mutex
	link Link
}

func newKnownLink(port, name string, tap bool) *knownLink {
	return &knownLink{link: Link{Port: port, Name: name, Tap: tap, State: rtnetlink.Up, Since: time.Now()}}
}

func (k *knownLink) now() Link {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.link
}

// set says whether the state is another than before.
func (k *knownLink) set(state string) (now Link, changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if changed = k.link.State != state; changed {
		k.link.State, k.link.Since = state, time.Now()
	}
	return k.link, changed
}

// followed are the interfaces of this host that the ports name.
func (g *Gate) followed() (all []*netdev.Followed) {
	for _, p := range g.ports {
		uplink, tap := p.uplink.(*netdev.Socket), p.tap.(*netdev.Tap)
		all = append(all,
			&netdev.Followed{Follower: rtnetlink.Follower{Name: p.Uplink, Index: uplink.Index(), State: rtnetlink.Up},
				Rebind: func(index int) error { return g.rebind(p, uplink, index) },
				Tell:   func(state string) { g.tell(p.uplinkKnown, state) }},
			&netdev.Followed{Follower: rtnetlink.Follower{Name: p.Tap, Index: tap.Index(), Tap: true, State: rtnetlink.Up},
				Tell: func(state string) { g.tell(p.tapKnown, state) }})
	}
	return all
}

// rebind goes on with an uplink that was made anew.
func (g *Gate) rebind(p *port, uplink *netdev.Socket, index int) error {
	err := uplink.Rebind(index)
	if err != nil {
		g.log.Warn("uplink cannot be used yet", "port", p.Name, "uplink", p.Uplink, "error", err)
	}
	return err
}

// watchLinks follows uplinks and taps until the gate is closed.
func (g *Gate) watchLinks() {
	defer g.wg.Done()
	err := g.links.Follow(g.followed())
	select {
	case <-g.closed: // which ends a read or write, too
	default:
		g.log.Error("uplinks and taps are not watched any more", "error", err)
	}
}

// tell of a link that is in another state than before.
func (g *Gate) tell(k *knownLink, state string) {
	now, changed := k.set(state)
	if !changed {
		return
	}
	if now.Up() {
		g.log.Info(now.Kind()+" is back", "port", now.Port, now.Kind(), now.Name)
	} else {
		g.log.Warn(now.Kind()+" does not carry anything", "port", now.Port, now.Kind(), now.Name, "state", state)
	}
	if g.changed != nil {
		g.changed(now)
	}
}

// Links tells the state of each port's uplink and, after it, of its tap.
func (g *Gate) Links() (all []Link) {
	for _, p := range g.ports {
		all = append(all, p.uplinkKnown.now(), p.tapKnown.now())
	}
	return all
}

// MTU of a port's uplink now; 0 where it is not known: the uplink is gone, or is not an
// interface of this host.
func (g *Gate) MTU(port int) int {
	s, ok := g.ports[port].uplink.(*netdev.Socket)
	if !ok {
		return 0
	}
	return s.MTU()
}
