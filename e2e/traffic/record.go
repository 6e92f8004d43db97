package traffic

import (
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

// Packet is one probe as an endpoint sent or received it.
type Packet struct {
	Stream    uint32
	Direction probe.Direction
	Seq       uint64
	Stamp     uint64        // 0 in sent packets
	Echo      uint64        // in replies: the stamp of the request
	At        time.Duration // since the recorder's start: before the send call, after the receive call
}

// Log is a record of traffic. Both lists are in the order of time.
type Log struct {
	Start    time.Time // wall clock and monotonic
	Sent     []Packet
	Received []Packet
	Overflow uint64 // packets that found no room: the record is not whole
}

// Recorder collects packets of any number of endpoints, at most its limit each
// of sent and received ones. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	limit int
	log   Log
}

// NewRecorder starts a record of at most limit sent and limit received packets.
func NewRecorder(limit int) *Recorder {
	return &Recorder{limit: limit, log: Log{Start: time.Now()}}
}

// Start is the instant that all times in the record count from.
func (r *Recorder) Start() time.Time { return r.log.Start }

// Now is the present time on the record's clock.
func (r *Recorder) Now() time.Duration { return time.Since(r.log.Start) }

// Since is an instant on the record's clock.
func (r *Recorder) Since(t time.Time) time.Duration { return t.Sub(r.log.Start) }

// sent notes a packet just before its send call. The time is taken under the
// lock, so that the list is in the order of time.
func (r *Recorder) sent(p probe.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Sent = r.add(r.log.Sent, p)
}

func (r *Recorder) received(p probe.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Received = r.add(r.log.Received, p)
}

func (r *Recorder) add(list []Packet, p probe.Packet) []Packet {
	if len(list) >= r.limit {
		r.log.Overflow++
		return list
	}
	return append(list, Packet{p.Stream, p.Direction, p.Seq, p.Stamp, p.Echo, r.Now()})
}

// Log returns a copy of the record so far.
func (r *Recorder) Log() Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.log
	l.Sent = append([]Packet(nil), l.Sent...)
	l.Received = append([]Packet(nil), l.Received...)
	return l
}

// Counts returns how many packets were sent and received so far.
func (r *Recorder) Counts() (sent, received int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log.Sent), len(r.log.Received)
}
