package guestagent

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// A Memory is a device without hardware, for tests: what is injected can be
// received, and what is sent can be collected. All methods may be called at any
// time from anywhere.
type Memory struct {
	info   DeviceInfo
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex
	waiting  [][][]byte
	arrived  []chan struct{} // per queue, capacity 1
	sent     [][]byte
	received uint64
	drops    Drops
	slots    int
	accept   int // frames that Transmit still takes; negative: any number
}

// NewMemory returns a device with so many receive and transmit queues, each of
// which holds slots frames.
func NewMemory(name string, rxQueues, txQueues, slots int) *Memory {
	m := &Memory{
		info: DeviceInfo{
			Name: name, MTU: 1500, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
			RxQueues: rxQueues, TxQueues: txQueues,
		},
		closed: make(chan struct{}), waiting: make([][][]byte, rxQueues),
		slots: slots, accept: -1,
	}
	for range rxQueues {
		m.arrived = append(m.arrived, make(chan struct{}, 1))
	}
	return m
}

// Inject lets a frame arrive; it reports false if the queue is full.
func (m *Memory) Inject(queue int, frame []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received++
	if len(m.waiting[queue]) == m.slots {
		m.drops.Full++
		return false
	}
	m.waiting[queue] = append(m.waiting[queue], append([]byte(nil), frame...))
	select {
	case m.arrived[queue] <- struct{}{}:
	default:
	}
	return true
}

// Waiting is how many frames a queue holds.
func (m *Memory) Waiting(queue int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting[queue])
}

// Sent returns, and forgets, the frames sent since the last call.
func (m *Memory) Sent() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := m.sent
	m.sent = nil
	return sent
}

// Accept limits how many more frames Transmit takes; negative means no limit.
func (m *Memory) Accept(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accept = n
}

// Info implements [Device].
func (m *Memory) Info() DeviceInfo { return m.info }

// Receive implements [Device].
func (m *Memory) Receive(queue int, packets []*Packet) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(packets) && len(m.waiting[queue]) > 0 {
		frame := m.waiting[queue][0]
		m.waiting[queue] = m.waiting[queue][1:]
		if !packets[n].Set(frame) {
			m.drops.Oversize++
			continue
		}
		packets[n].Time = time.Now()
		n++
	}
	return n
}

// Transmit implements [Device].
func (m *Memory) Transmit(_ int, packets []*Packet) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(packets)
	if m.accept >= 0 {
		n = min(n, m.accept)
		m.accept -= n
	}
	for _, p := range packets[:n] {
		m.sent = append(m.sent, append([]byte(nil), p.Data...))
	}
	return n
}

// Wait implements [Device].
func (m *Memory) Wait(queue int, timeout time.Duration) error {
	if m.Waiting(queue) > 0 {
		return nil
	}
	var expired <-chan time.Time
	if timeout >= 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-m.arrived[queue]:
	case <-expired:
	case <-m.closed:
		return fmt.Errorf("wait on %s: %w", m.info.Name, ErrClosed)
	}
	return nil
}

// Received implements [Device].
func (m *Memory) Received() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.received
}

// Drops implements [Device].
func (m *Memory) Drops() Drops {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drops
}

// Close implements [Device].
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}
