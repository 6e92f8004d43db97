package traffic

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

// Kind is a kind of rollback.
type Kind string

// The machine issues every stamp once and in rising order, each for one packet
// that leaves it. If its state is ever set back behind output that the outside
// has seen, stamps come again. Three observations show it.
const (
	// Reissued: one stamp was seen on two different packets. Proof, whatever the
	// network does.
	Reissued Kind = "stamp issued twice"

	// BeforeSeen: a packet that was sent after a stamp had been seen outside
	// carries a stamp that is not above it. Its stamp was issued after its
	// sending, and the other one before it was seen, so the counter ran
	// backwards. Proof, whatever the network does: both endpoints are recorded
	// by one clock, sends before the call and receipts after it. This covers a
	// reply whose stamp is not above its request's.
	BeforeSeen Kind = "stamp not above one seen before the packet was sent"

	// WentBack: on one stream and direction a later packet carries a lower stamp
	// than an earlier packet seen before it, or the same packet was seen again
	// under a lower stamp. Without a rollback that would take a network that
	// reorders on both sides of the machine; the lab's has one path, its ends
	// never forget where the machine is, and so it does not.
	WentBack Kind = "stamp went back"
)

// Rollback is one packet that shows that state was set back.
type Rollback struct {
	Kind   Kind
	Packet Packet // as received
	Other  uint64 // the stamp, or for Reissued the other packet's seq, that contradicts it
}

// String describes the finding.
func (r Rollback) String() string {
	p := r.Packet
	return fmt.Sprintf("stream %d %v %d, stamp %d, at %v: %s (%d)", p.Stream, p.Direction, p.Seq, p.Stamp, p.At, r.Kind, r.Other)
}

// Overtaken is a packet that was received after one that was sent later. The stamps
// tell where: the machine gives them in the order in which it has the packets.
type Overtaken struct {
	Packet Packet        // as received
	Sent   time.Duration // when, on the record's clock
	By     Packet        // the one with the highest seq before it, as received
}

// String describes the finding.
func (o Overtaken) String() string {
	where := "behind the machine"
	if o.Packet.Stamp > o.By.Stamp {
		where = "before the machine"
	}
	p := o.Packet
	return fmt.Sprintf("stream %d %v %d, stamp %d, sent at %v, at %v: overtaken %s by %d, stamp %d, at %v",
		p.Stream, p.Direction, p.Seq, p.Stamp, o.Sent, p.At, where, o.By.Seq, o.By.Stamp, o.By.At)
}

// Verdict is what the oracle finds in a record. Requests and replies count
// alike, each as a packet with one sender and one receiver.
type Verdict struct {
	Sent       uint64
	Received   uint64 // different packets
	Lost       uint64 // sent and never received
	Duplicated uint64 // received again, under the same or another stamp
	Reordered  uint64 // first received after a packet with a higher seq
	Unstamped  uint64 // received without a stamp: the machine is not in oracle mode, or was bypassed
	Unknown    uint64 // received and never sent: a corrupted or foreign packet
	Overflow   uint64 // not recorded; if any, the verdict is not whole

	Rollbacks uint64
	Evidence  []Rollback  // the first maxEvidence of them
	Overtaken []Overtaken // the first maxEvidence that count as reordered
	Missing   []Packet    // the first maxEvidence that were lost, as sent
}

const maxEvidence = 100

// Clean reports whether nothing but loss and duplicates was found: what a
// takeover of a whole host may cause at most.
func (v Verdict) Clean() bool {
	return v.Rollbacks+v.Reordered+v.Unstamped+v.Unknown+v.Overflow == 0
}

// String is one line for people.
func (v Verdict) String() string {
	return fmt.Sprintf("sent %d, received %d, lost %d, duplicated %d, reordered %d, rollbacks %d, unstamped %d, unknown %d",
		v.Sent, v.Received, v.Lost, v.Duplicated, v.Reordered, v.Rollbacks, v.Unstamped, v.Unknown)
}

type flowID struct {
	stream    uint32
	direction probe.Direction
}

type packetID struct {
	flowID
	seq uint64
}

func (p Packet) flow() flowID { return flowID{p.Stream, p.Direction} }
func (p Packet) id() packetID { return packetID{p.flow(), p.Seq} }

// progress is what was seen of one flow so far.
type progress struct {
	seq   uint64 // highest
	stamp uint64 // highest
	last  Packet // that with the highest seq
}

// mark says that a stamp, higher than any before, was seen outside at a time.
type mark struct {
	at    time.Duration
	stamp uint64
}

type judge struct {
	verdict Verdict
	sentAt  map[packetID]time.Duration
	stamps  map[packetID]uint64 // the highest under which a packet was seen
	owner   map[uint64]packetID // which packet bears a stamp
	flows   map[flowID]*progress
	marks   []mark // in rising order of both time and stamp
}

// Judge looks for faults in a record. It is pure, and takes memory proportional
// to the record's length.
func Judge(l Log) Verdict {
	j := judge{
		sentAt: make(map[packetID]time.Duration, len(l.Sent)),
		stamps: make(map[packetID]uint64, len(l.Received)),
		owner:  make(map[uint64]packetID, len(l.Received)),
		flows:  map[flowID]*progress{},
	}
	for _, p := range l.Sent {
		if _, again := j.sentAt[p.id()]; !again { // the earliest claims least
			j.sentAt[p.id()] = p.At
		}
	}
	for _, p := range l.Received {
		j.receive(p)
	}
	j.verdict.Sent = uint64(len(j.sentAt))
	j.verdict.Received = uint64(len(j.stamps))
	j.verdict.Lost = j.verdict.Sent - j.verdict.Received
	j.name(l.Sent)
	j.verdict.Overflow = l.Overflow
	return j.verdict
}

// name the first packets that were lost.
func (j *judge) name(sent []Packet) {
	named := map[packetID]bool{}
	for _, p := range sent {
		if len(j.verdict.Missing) == maxEvidence {
			return
		}
		if _, received := j.stamps[p.id()]; !received && !named[p.id()] {
			named[p.id()] = true
			j.verdict.Missing = append(j.verdict.Missing, p)
		}
	}
}

func (j *judge) receive(p Packet) {
	if _, known := j.sentAt[p.id()]; !known {
		j.verdict.Unknown++
		return
	}
	if p.Stamp == 0 {
		j.verdict.Unstamped++
	}
	seen, again := j.stamps[p.id()]
	if again {
		j.verdict.Duplicated++
	}
	owner, taken := j.owner[p.Stamp]
	if exactCopy := taken && owner == p.id(); p.Stamp != 0 && !exactCopy {
		j.checkStamp(p, seen)
	}
	j.note(p, again)
}

// checkStamp counts at most one rollback for a packet; seen is the stamp under
// which it was seen before, 0 for none.
func (j *judge) checkStamp(p Packet, seen uint64) {
	if other, taken := j.owner[p.Stamp]; taken && other != p.id() {
		j.rollback(Reissued, p, other.seq)
		return
	}
	if before := j.seenBefore(j.sentAt[p.id()]); p.Stamp <= before {
		j.rollback(BeforeSeen, p, before)
		return
	}
	if p.Stamp <= p.Echo {
		j.rollback(BeforeSeen, p, p.Echo)
		return
	}
	if p.Stamp < seen {
		j.rollback(WentBack, p, seen)
		return
	}
	if f := j.flows[p.flow()]; f != nil && p.Seq > f.seq && p.Stamp < f.stamp {
		j.rollback(WentBack, p, f.stamp)
	}
}

// seenBefore is the highest stamp that was seen outside before a time.
func (j *judge) seenBefore(t time.Duration) uint64 {
	after, _ := slices.BinarySearchFunc(j.marks, t, func(m mark, t time.Duration) int { return cmp.Compare(m.at, t) })
	if after == 0 {
		return 0
	}
	return j.marks[after-1].stamp
}

func (j *judge) rollback(k Kind, p Packet, other uint64) {
	j.verdict.Rollbacks++
	if len(j.verdict.Evidence) < maxEvidence {
		j.verdict.Evidence = append(j.verdict.Evidence, Rollback{Kind: k, Packet: p, Other: other})
	}
}

// note adds a receipt to what was seen.
func (j *judge) note(p Packet, again bool) {
	j.stamps[p.id()] = max(j.stamps[p.id()], p.Stamp)
	if _, taken := j.owner[p.Stamp]; !taken && p.Stamp != 0 {
		j.owner[p.Stamp] = p.id()
	}
	if len(j.marks) == 0 || p.Stamp > j.marks[len(j.marks)-1].stamp {
		j.marks = append(j.marks, mark{p.At, p.Stamp})
	}
	f := j.flows[p.flow()]
	if f == nil {
		f = &progress{seq: p.Seq, last: p}
		j.flows[p.flow()] = f
	} else if !again && p.Seq < f.seq {
		j.verdict.Reordered++
		if len(j.verdict.Overtaken) < maxEvidence {
			j.verdict.Overtaken = append(j.verdict.Overtaken, Overtaken{p, j.sentAt[p.id()], f.last})
		}
	} else if p.Seq > f.seq {
		f.last = p
	}
	f.seq, f.stamp = max(f.seq, p.Seq), max(f.stamp, p.Stamp)
}
