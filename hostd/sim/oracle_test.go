package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// node is one moment of a guest. What a guest does at random makes two guests that
// go on from the same moment two branches.
type node struct {
	id     uint64
	parent *node
	root   *node // where this start of the machine began
	depth  int
	held   bool // a standby holds a state that has it
}

func (n *node) String() string {
	if n == nil {
		return "nothing"
	}
	return fmt.Sprintf("node %d (step %d of start %d)", n.id, n.depth, n.root.id)
}

// before says whether a is b or a moment before it.
func before(a, b *node) bool {
	for b != nil && b.depth > a.depth {
		b = b.parent
	}
	return a == b
}

// oracle knows the guests' moments, the record that stands and what the network
// has seen, and judges each frame.
type oracle struct {
	w        *world
	mu       sync.Mutex
	nodes    []*node // by number
	root     *node   // of the last start
	seen     *node   // the latest that has left
	left     map[said]bool
	record   arbiter.Record
	sessions map[string]*session // the latest of a host
	lastLeft time.Time
	lastFrom string
}

// said is a frame that one daemon let go.
type said struct {
	by *incarnation
	n  *node
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, nodes: []*node{nil}, left: map[said]bool{}, sessions: map[string]*session{}}
}

// add with the lock held.
func (o *oracle) add(parent *node) *node {
	n := &node{id: uint64(len(o.nodes)), parent: parent}
	if n.root = n; parent != nil {
		n.root, n.depth = parent.root, parent.depth+1
	}
	o.nodes = append(o.nodes, n)
	return n
}

func (o *oracle) boot(host string) *node {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.root = o.add(nil)
	o.seen = o.root
	return o.root
}

func (o *oracle) step(from *node, _ []byte) *node {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.add(from)
}

func (o *oracle) node(id uint64) *node {
	o.mu.Lock()
	defer o.mu.Unlock()
	if id < uint64(len(o.nodes)) {
		return o.nodes[id]
	}
	return nil
}

func (o *oracle) protects(s *session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sessions[s.from] = s
}

func (o *oracle) taken(s *session, epoch uint64, n *node) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.epochs[epoch] = n
}

// stores: a standby holds an epoch whole.
func (o *oracle) stores(host string, epoch uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for from, s := range o.sessions {
		if from == host {
			continue
		}
		for n := s.epochs[epoch]; n != nil && !n.held; n = n.parent {
			n.held = true
		}
	}
}

// recorded with the lock held: the table of docs/safety.md.
func (o *oracle) recorded(old, next arbiter.Record, by string) {
	o.record = next
	ok := next.Generation == old.Generation+1
	switch next.Kind {
	case "started":
		ok = ok && (old.Voice == "" || old.Voice == by) && next.Voice == by && next.Standby == ""
	case "pair":
		ok = ok && old.Voice == by && next.Voice == by && next.Standby != "" && next.Standby != by
	case "solo":
		ok = ok && old.Voice == by && next.Voice == by && next.Standby == ""
	case "takeover", "handover":
		ok = ok && old.Standby == by && next.Voice == by && next.Standby == ""
	case "return":
		ok = ok && old.Voice == by && next.Voice != by && next.Voice != "" && next.Standby == ""
	case "stopped":
		ok = ok && old.Voice == by && next.Voice == "" && next.Standby == ""
	default:
		ok = false
	}
	if !ok {
		o.w.finding("%s won %+v after %+v", by, next, old)
	}
}

// leaves judges a frame at the moment at which the network sees it.
func (o *oracle) leaves(i *incarnation, frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if kindOf(frame) != typeOutput {
		if o.record.Voice != i.host.name {
			o.w.finding("%s announces the guest's addresses; the record says %s %d voice %q", i.name(), o.record.Kind, o.record.Generation, o.record.Voice)
		}
		return
	}
	n := o.nodes[numberOf(frame)]
	o.judge(i, n)
	if o.left[said{i, n}] {
		o.w.finding("%s says %v twice", i.name(), n)
	}
	o.left[said{i, n}] = true
	if n.root != o.root {
		return
	}
	if n.depth > o.seen.depth {
		o.seen = n
	}
	o.lastLeft, o.lastFrom = time.Now(), i.host.name
}

// heard reports that a host was the last to speak for the machine, since it was started.
func (o *oracle) heard(from string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.root != nil && o.seen != o.root && o.lastFrom == from
}

// judge: a primary may let leave what its standby holds although that has taken the
// machine over meanwhile.
func (o *oracle) judge(i *incarnation, n *node) {
	r, host := o.record, i.host.name
	switch {
	case n.root != o.root:
		o.w.finding("two voices: %s says %v, and the machine has been started anew", i.name(), n)
	case !before(n, o.seen) && !before(o.seen, n):
		o.w.finding("contradiction: %s says %v, and %v was seen", i.name(), n, o.seen)
	case r.Voice == host && r.Standby == "":
	case r.Voice == "":
		o.w.finding("two voices: %s says %v, and nobody has the voice (generation %d)", i.name(), n, r.Generation)
	case !n.held && r.Voice == host:
		o.w.finding("output before its commit: %s says %v, which standby %q does not hold", i.name(), n, r.Standby)
	case !n.held:
		o.w.finding("two voices: %s says %v, and %q has the voice (%s %d)", i.name(), n, r.Voice, r.Kind, r.Generation)
	}
}

// runs: a takeover has loaded the guest.
func (o *oracle) runs(host string, n *node) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w.log("%s: the guest goes on from %v; %v was seen", host, n, o.seen)
	if n.root != o.root || !before(o.seen, n) {
		o.w.finding("%s takes over from %v, which does not remember %v", host, n, o.seen)
	}
}
