package guestagent

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// PortOptions shape a port. Zero values mean the defaults, and so do negative numbers.
type PortOptions struct {
	// RxQueues is how many receive queues; packets are spread over them by
	// flow. Default 1.
	RxQueues int
	// TxQueues is how many transmit queues: one for every goroutine that sends
	// or frees through this port. Default RxQueues.
	TxQueues int
	// RingSlots is how many frames can wait in a receive queue. Default 512.
	RingSlots int
	// Promiscuous receives frames for other stations too.
	Promiscuous bool
	// KeepGRO leaves the receive offloads of card and kernel on, which OpenPort
	// switches off. Packets that they merge
	// are longer than the MTU, and dropped as oversize.
	KeepGRO bool
	// KeepDiscipline leaves the interface's queue discipline as it is. OpenPort
	// replaces one that drops packets which it has taken, when they have waited for
	// some milliseconds: they do whenever the machine's host is busy or copies a
	// checkpoint.
	KeepDiscipline bool
}

func (o *PortOptions) setDefaults() {
	o.RxQueues = max(o.RxQueues, 1)
	if o.TxQueues <= 0 {
		o.TxQueues = o.RxQueues
	}
	if o.RingSlots <= 0 {
		o.RingSlots = 512
	}
}

// A Port is a device behind the gate. Each of its queues may be used by one
// goroutine at a time; different queues at once. Queues are numbered from 0, and one that
// the port does not have is a panic.
type Port struct {
	device Device
	info   DeviceInfo
	gate   *Gate
	rx     []*rxQueue
	tx     []*txQueue
	done   chan struct{}
	once   sync.Once
	detach func(*Port)
}

type rxQueue struct {
	slot  *Slot
	cache cache
	timer *time.Timer // of RxWait, at the gate
}

type txQueue struct {
	slot  *Slot
	cache cache
	sent  atomic.Uint64
	nSent uint64 // the owner's copy
}

func newPort(d Device, g *Gate, p *pool) *Port {
	port := &Port{device: d, info: d.Info(), gate: g, done: make(chan struct{})}
	for range port.info.RxQueues {
		port.rx = append(port.rx, &rxQueue{slot: g.NewSlot(), cache: newCache(p)})
	}
	for range port.info.TxQueues {
		port.tx = append(port.tx, &txQueue{slot: g.NewSlot(), cache: newCache(p)})
	}
	return port
}

// Info describes the device. It is safe for concurrent use.
func (p *Port) Info() DeviceInfo { return p.info }

// RxBurst fills packets with what a receive queue has and says how many. None
// may mean that nothing arrived, that the gate is closed, or that the
// application holds all buffers. At most 128 are filled at once. It does not wait. The
// packets are the caller's until sent or freed, on any port; what stands behind them in
// the slice is not.
func (p *Port) RxBurst(queue int, packets []*Packet) int {
	q := p.rx[queue]
	n := q.cache.reserve(min(len(packets), cacheLimit))
	if n == 0 || !q.slot.Enter() {
		return 0
	}
	for i := range packets[:n] {
		packets[i] = q.cache.pop()
	}
	got := p.device.Receive(queue, packets[:n])
	q.cache.unpop(packets[got:n])
	q.slot.Leave(got)
	return got
}

// RxWait is RxBurst that waits for a packet, for at most timeout; a negative
// one means for ever. While the gate is closed it parks, and what arrives stays
// in the device. There must be room for a packet. It returns 0 and no error when the time
// is up, an error that is ErrClosed when the port is closed, and the device's own when that
// has failed.
func (p *Port) RxWait(queue int, packets []*Packet, timeout time.Duration) (int, error) {
	deadline := time.Now().Add(timeout)
	for {
		select {
		case <-p.done:
			return 0, ErrClosed
		default:
		}
		if n := p.RxBurst(queue, packets); n > 0 {
			return n, nil
		}
		left := time.Duration(-1)
		if timeout >= 0 {
			if left = time.Until(deadline); left <= 0 {
				return 0, nil
			}
		}
		if err := p.wait(queue, left); err != nil {
			return 0, err
		}
	}
}

// wait waits at the gate if it is closed, at the device if it is open, and for
// a buffer where those are the bottleneck.
func (p *Port) wait(queue int, left time.Duration) error {
	q := p.rx[queue]
	switch {
	case p.gate.Closed():
		return p.park(&q.timer, left)
	case q.cache.reserve(1) == 0:
		select {
		case <-p.done:
			return ErrClosed
		case <-time.After(time.Millisecond):
			return nil
		}
	}
	return p.device.Wait(queue, left)
}

// park waits until the gate opens.
func (p *Port) park(timer **time.Timer, left time.Duration) error {
	var expired <-chan time.Time
	if left >= 0 {
		if *timer == nil {
			*timer = time.NewTimer(left)
		}
		(*timer).Reset(left)
		defer (*timer).Stop()
		expired = (*timer).C
	}
	select {
	case <-p.gate.Opened():
	case <-expired:
	case <-p.done:
		return ErrClosed
	}
	return nil
}

// TxBurst sends packets through a transmit queue and says how many it took,
// the first ones; the others are still the caller's. It does not wait, and works with the
// gate closed: what the application holds has to get out. A packet that can never be sent
// counts as taken, and as dropped in Stats. It panics if a packet that it takes was sent
// or freed before.
func (p *Port) TxBurst(queue int, packets []*Packet) int {
	q := p.tx[queue]
	n := p.device.Transmit(queue, packets)
	q.nSent += uint64(n)
	q.sent.Store(q.nSent)
	q.cache.push(packets[:n])
	q.slot.Returned(n)
	return n
}

// Free drops packets, received on any port. The queue is the transmit queue of
// the calling goroutine. It does not wait, and works with the gate closed. It panics if a
// packet was sent or freed before.
func (p *Port) Free(queue int, packets []*Packet) {
	q := p.tx[queue]
	q.cache.push(packets)
	q.slot.Returned(len(packets))
}

// Alloc makes an empty packet that is the application's own idea. It returns
// nil if the gate is closed or all buffers are held. The queue is the transmit
// queue of the calling goroutine.
func (p *Port) Alloc(queue int) *Packet {
	q := p.tx[queue]
	if q.cache.reserve(1) == 0 || !q.slot.Enter() {
		return nil
	}
	packet := q.cache.pop()
	q.slot.Leave(1)
	return packet
}

// Derive makes an empty packet on account of another one that the application
// holds, and must hold until Derive returns: an answer, a fragment, a copy. It
// works with the gate closed, and returns nil if all buffers are held. It panics if
// the application does not hold the parent.
func (p *Port) Derive(queue int, parent *Packet) *Packet {
	if !parent.held {
		panic("guestagent: packet derived from one that is not held")
	}
	q := p.tx[queue]
	if q.cache.reserve(1) == 0 {
		return nil
	}
	packet := q.cache.pop()
	q.slot.Derived(1)
	return packet
}

// PortStats are a port's packets since it was opened. None ever falls.
type PortStats struct {
	Received uint64 // reached the port: handed out, waiting, or lost in it
	Taken    uint64 // handed out to the application
	Sent     uint64 // that TxBurst took
	Drops    Drops
}

// Stats may be called at any time from anywhere, also of a port that is closed.
func (p *Port) Stats() PortStats {
	s := PortStats{Received: p.device.Received(), Sent: p.sent(), Drops: p.device.Drops()}
	for _, q := range p.rx {
		s.Taken += q.slot.taken.Load() >> 1
	}
	return s
}

func (p *Port) sent() (n uint64) {
	for _, q := range p.tx {
		n += q.sent.Load()
	}
	return n
}

// Close ends all waiting on the port and closes the device. The application
// must have stopped using its queues, other than waiting in RxWait, and packets
// it still holds can be freed on another port only. It returns an error if the device did
// not close well. A second call does nothing.
func (p *Port) Close() error {
	var err error
	p.once.Do(func() {
		close(p.done)
		if p.detach != nil {
			p.detach(p)
		}
		if err = p.device.Close(); err != nil {
			err = fmt.Errorf("close port %s: %w", p.info.Name, err)
		}
	})
	return err
}
