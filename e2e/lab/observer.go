package lab

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// observedFrames is how many frames an Observer remembers, observedBytes
	// how much of each.
	observedFrames = 1 << 17
	observedBytes  = 128
	observedMACs   = 1 << 12
)

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// ParseMAC parses the usual colon form.
func ParseMAC(s string) (MAC, error) {
	a, err := net.ParseMAC(s)
	if err != nil || len(a) != len(MAC{}) {
		return MAC{}, fmt.Errorf("MAC address %q: want six bytes in hexadecimal", s)
	}
	return MAC(a), nil
}

// Frame is a frame seen at the segment's end of a host's uplink.
type Frame struct {
	Time time.Time // the kernel's, wall clock
	Host string
	Port string // in or out
	// Sent tells that the host sent it; else it was on its way to the host.
	Sent   bool
	Source MAC
	Length int    // on the wire, in bytes
	Head   []byte // the first bytes
}

// Voice is who sent, and where.
type Voice struct {
	Host, Port string
	Sent       bool
	Source     MAC
}

// Count of the frames of one Voice.
type Count struct {
	Frames, Bytes uint64
	First, Last   time.Time
}

// Observer sees every frame at the hosts' uplinks from outside the hosts. It
// remembers the last 131,072 frames and counts all. Safe for concurrent use.
type Observer struct {
	sniffers []*sniffer

	mu        sync.Mutex
	frames    []Frame   // a ring once it is full
	next      int       // the oldest of a full ring
	forgotten time.Time // of the latest frame that the ring lost
	arena     []byte    // for the heads of new frames
	counts    map[Voice]*Count
	watchers  map[*watcher]struct{}
}

type watcher struct {
	wanted func(Frame) bool
	found  chan Frame
}

func observe(l *Lab) (*Observer, error) {
	o := &Observer{counts: map[Voice]*Count{}, watchers: map[*watcher]struct{}{}}
	for _, h := range l.Hosts {
		for _, c := range []*Cable{h.In, h.Out} {
			s, err := o.sniff(h.Name, c)
			if err != nil {
				o.close()
				return nil, fmt.Errorf("observe host %s: %w", h.Name, err)
			}
			o.sniffers = append(o.sniffers, s)
		}
	}
	return o, nil
}

// add remembers a frame. f.Head is the sniffer's buffer and is copied.
func (o *Observer) add(f Frame) {
	o.count(f)
	slot := o.slot()
	head := slot.Head[:min(len(f.Head), cap(slot.Head))]
	copy(head, f.Head)
	f.Head = head
	*slot = f
	for w := range o.watchers {
		if w.wanted(f) {
			w.found <- f.clone() // has room for one
			delete(o.watchers, w)
		}
	}
}

// slot is the place of the next frame, with a head of full capacity.
func (o *Observer) slot() *Frame {
	if len(o.frames) < observedFrames {
		if len(o.arena) == 0 {
			o.arena = make([]byte, 1024*observedBytes)
		}
		o.frames = append(o.frames, Frame{Head: o.arena[:observedBytes:observedBytes]})
		o.arena = o.arena[observedBytes:]
		return &o.frames[len(o.frames)-1]
	}
	slot := &o.frames[o.next]
	o.next = (o.next + 1) % observedFrames
	if slot.Time.After(o.forgotten) {
		o.forgotten = slot.Time
	}
	return slot
}

func (o *Observer) count(f Frame) {
	v := Voice{f.Host, f.Port, f.Sent, f.Source}
	c := o.counts[v]
	if c == nil {
		if len(o.counts) >= observedMACs { // a flood of sources is counted as one
			v.Source = MAC{}
			c = o.counts[v]
		}
		if c == nil {
			c = &Count{First: f.Time}
			o.counts[v] = c
		}
	}
	c.Frames++
	c.Bytes += uint64(f.Length)
	c.Last = f.Time
}

func (f Frame) clone() Frame {
	f.Head = append([]byte(nil), f.Head...)
	return f
}

// Counts of everything seen since the start or the last Reset.
func (o *Observer) Counts() map[Voice]Count {
	o.mu.Lock()
	defer o.mu.Unlock()
	counts := make(map[Voice]Count, len(o.counts))
	for v, c := range o.counts {
		counts[v] = *c
	}
	return counts
}

// SentBy counts what a host sent on all its uplinks with a source address.
func (o *Observer) SentBy(host string, source MAC) Count {
	var sum Count
	for v, c := range o.Counts() {
		if v.Host != host || !v.Sent || v.Source != source {
			continue
		}
		if sum.Frames == 0 || c.First.Before(sum.First) {
			sum.First = c.First
		}
		if c.Last.After(sum.Last) {
			sum.Last = c.Last
		}
		sum.Frames += c.Frames
		sum.Bytes += c.Bytes
	}
	return sum
}

// Frames returns the remembered frames that are wanted, in the order in which
// they were read, which between ports is not exactly that of their times.
// The function must not call the Observer.
func (o *Observer) Frames(wanted func(Frame) bool) []Frame {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []Frame
	for i := range o.frames {
		f := o.frames[(o.next+i)%len(o.frames)]
		if wanted == nil || wanted(f) {
			found = append(found, f.clone())
		}
	}
	return found
}

// Await waits for the next wanted frame. The function must be quick and must
// not call the Observer.
func (o *Observer) Await(ctx context.Context, wanted func(Frame) bool) (Frame, error) {
	w := &watcher{wanted, make(chan Frame, 1)}
	o.mu.Lock()
	o.watchers[w] = struct{}{}
	o.mu.Unlock()
	select {
	case f := <-w.found:
		return f, nil
	case <-ctx.Done():
		o.mu.Lock()
		delete(o.watchers, w)
		o.mu.Unlock()
		return Frame{}, fmt.Errorf("wait for a frame on the wire: %w", ctx.Err())
	}
}

// Settle waits until every frame that passed before the call has been seen.
func (o *Observer) Settle(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, s := range o.sniffers {
		for {
			empty, err := s.empty()
			if err != nil {
				return err
			}
			if empty {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("settle the wire observer: %w", ctx.Err())
			}
		}
	}
	return nil
}

// Missed is how many frames passed unseen, because the observer did not get
// to read them in time. A test of silence must find 0.
func (o *Observer) Missed() (uint64, error) {
	var sum uint64
	for _, s := range o.sniffers {
		n, err := s.missed()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Reset forgets frames and counts.
func (o *Observer) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames, o.next, o.arena, o.forgotten = nil, 0, nil, time.Time{}
	o.counts = map[Voice]*Count{}
}

func (o *Observer) close() error {
	for _, s := range o.sniffers {
		s.socket.file.Close()
	}
	for _, s := range o.sniffers {
		s.owned.Wait()
	}
	return nil
}
