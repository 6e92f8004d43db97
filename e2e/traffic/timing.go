package traffic

import (
	"cmp"
	"slices"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

// Gap is a time in which nothing was received.
type Gap struct {
	From, To time.Duration // on the record's clock: last packet before, first packet after
}

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To - g.From }

// Blackout finds the longest gap between received packets that touches the time
// from the instant at (a kill, say) until within later. The packets that were
// still under way at that instant therefore do not end it. Ok is false where no
// packet was received before or none after.
//
// To - at is the time from a kill to the first packet that came through
// afterwards.
func Blackout(l Log, at, within time.Duration) (longest Gap, ok bool) {
	for i := 1; i < len(l.Received); i++ {
		g := Gap{l.Received[i-1].At, l.Received[i].At}
		if g.To < at || g.From > at+within {
			continue
		}
		if g.Length() > longest.Length() {
			longest, ok = g, true
		}
	}
	return longest, ok
}

// Latency is a distribution of durations.
type Latency struct {
	Count              int
	P50, P95, P99, Max time.Duration
}

// RoundTrips summarises [Trips].
func RoundTrips(l Log) Latency { return Distribution(Trips(l)) }

// Trips is the time from each request's sending to the first receipt of its
// reply, for those that were answered.
func Trips(l Log) []time.Duration {
	sent := make(map[packetID]time.Duration, len(l.Sent))
	for _, p := range l.Sent {
		if p.Direction == probe.Request {
			sent[p.id()] = p.At
		}
	}
	var all []time.Duration
	for _, p := range l.Received {
		request := packetID{flowID{p.Stream, probe.Request}, p.Seq}
		if at, ok := sent[request]; ok && p.Direction == probe.Reply {
			all = append(all, p.At-at)
			delete(sent, request)
		}
	}
	return all
}

// Distribution summarises durations. It sorts the slice.
func Distribution(d []time.Duration) Latency {
	if len(d) == 0 {
		return Latency{}
	}
	slices.SortFunc(d, cmp.Compare[time.Duration])
	at := func(percent int) time.Duration { return d[(len(d)-1)*percent/100] }
	return Latency{Count: len(d), P50: at(50), P95: at(95), P99: at(99), Max: d[len(d)-1]}
}

// Times are the instants of packets, for a picture.
func Times(list []Packet) []time.Duration {
	times := make([]time.Duration, len(list))
	for i, p := range list {
		times[i] = p.At
	}
	return times
}

// Lost packets are those that were sent and never received, in the order of
// time.
func Lost(l Log) []Packet {
	received := make(map[packetID]bool, len(l.Received))
	for _, p := range l.Received {
		received[p.id()] = true
	}
	var lost []Packet
	for _, p := range l.Sent {
		if !received[p.id()] {
			lost = append(lost, p)
		}
	}
	return lost
}
