package agenttest

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/guestagent"
)

// A Memory is a device without hardware: what is injected can be received, and what is
// sent can be collected. All methods may be called at any time from anywhere, except that
// one goroutine at a time may wait on a queue, or for what is sent.
type Memory struct {
	info   guestagent.DeviceInfo
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex
	waiting  [][][]byte
	arrived  []chan struct{} // per queue, capacity 1
	sent     [][]byte
	received uint64
	drops    guestagent.Drops
	slots    int
	accept   int           // frames that Transmit still takes; negative: any number
	departed chan struct{} // capacity 1
}

// NewMemory returns a device with so many receive and transmit queues. A receive queue
// holds slots frames; what is sent is kept without a bound. The MTU is 1500 bytes.
func NewMemory(name string, rxQueues, txQueues, slots int) *Memory {
	m := &Memory{
		info: guestagent.DeviceInfo{
			Name: name, MTU: 1500, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
			RxQueues: rxQueues, TxQueues: txQueues,
		},
		closed: make(chan struct{}), waiting: make([][][]byte, rxQueues),
		slots: slots, accept: -1, departed: make(chan struct{}, 1),
	}
	for range rxQueues {
		m.arrived = append(m.arrived, make(chan struct{}, 1))
	}
	return m
}

// Inject lets a copy of a frame arrive; it reports false, and counts a drop, if the queue
// is full. It panics if there is no such queue.
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

// Waiting is how many frames a queue holds that have not been received. It panics if
// there is no such queue.
func (m *Memory) Waiting(queue int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting[queue])
}

// Sent returns, and forgets, the frames sent since the last call, of all queues in the
// order in which they were sent.
func (m *Memory) Sent() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := m.sent
	m.sent = nil
	return sent
}

// AwaitSent is Sent once there are n frames, or when the time is up.
func (m *Memory) AwaitSent(n int, timeout time.Duration) [][]byte {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		m.mu.Lock()
		enough := len(m.sent) >= n
		m.mu.Unlock()
		if enough {
			return m.Sent()
		}
		select {
		case <-m.departed:
		case <-timer.C:
			return m.Sent()
		}
	}
}

// Accept limits how many more frames Transmit takes; negative means no limit.
func (m *Memory) Accept(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accept = n
}

// Info implements [guestagent.Device].
func (m *Memory) Info() guestagent.DeviceInfo { return m.info }

// Receive implements [guestagent.Device].
func (m *Memory) Receive(queue int, packets []*guestagent.Packet) int {
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

// Transmit implements [guestagent.Device].
func (m *Memory) Transmit(_ int, packets []*guestagent.Packet) int {
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
	select {
	case m.departed <- struct{}{}:
	default:
	}
	return n
}

// Wait implements [guestagent.Device].
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
		return fmt.Errorf("wait on %s: %w", m.info.Name, guestagent.ErrClosed)
	}
	return nil
}

// Received implements [guestagent.Device].
func (m *Memory) Received() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.received
}

// Drops implements [guestagent.Device].
func (m *Memory) Drops() guestagent.Drops {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drops
}

// Close implements [guestagent.Device].
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}
