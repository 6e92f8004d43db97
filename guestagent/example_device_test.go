package guestagent_test

import (
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/guestagent"
)

// tunnel is a device whose frames come and go through channels, as those of a tunnel or
// of a driver in user space would. What it has taken and nobody has received yet is not
// held by the application: it stays in the device during a still point.
type tunnel struct {
	in     <-chan []byte
	out    chan<- []byte
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	next   []byte // taken by Wait, or nil
	taken  uint64
	longer uint64 // than a buffer
}

func (d *tunnel) Info() guestagent.DeviceInfo {
	return guestagent.DeviceInfo{Name: "tunnel", MTU: 1400, RxQueues: 1, TxQueues: 1}
}

func (d *tunnel) Wait(_ int, timeout time.Duration) error {
	var expired <-chan time.Time
	if timeout >= 0 {
		expired = time.After(timeout)
	}
	if d.peek() {
		return nil
	}
	select {
	case frame := <-d.in:
		d.keep(frame)
	case <-expired:
	case <-d.closed:
		return guestagent.ErrClosed
	}
	return nil
}

// keep holds a frame until Receive.
func (d *tunnel) keep(frame []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = frame
	d.taken++
}

// peek says whether there is a frame to receive.
func (d *tunnel) peek() bool {
	d.mu.Lock()
	waiting := d.next != nil
	d.mu.Unlock()
	if waiting {
		return true
	}
	select {
	case frame := <-d.in:
		d.keep(frame)
		return true
	default:
		return false
	}
}

func (d *tunnel) Receive(_ int, packets []*guestagent.Packet) int {
	n := 0
	for n < len(packets) && d.peek() {
		d.mu.Lock()
		if packets[n].Set(d.next) {
			packets[n].Time = time.Now()
			n++
		} else {
			d.longer++
		}
		d.next = nil
		d.mu.Unlock()
	}
	return n
}

func (d *tunnel) Transmit(_ int, packets []*guestagent.Packet) int {
	for i, p := range packets {
		select {
		case d.out <- append([]byte(nil), p.Data...): // the packet's buffer is used again
		default:
			return i // no room: the others are still the caller's
		}
	}
	return len(packets)
}

func (d *tunnel) Received() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken + uint64(len(d.in))
}

func (d *tunnel) Drops() guestagent.Drops {
	d.mu.Lock()
	defer d.mu.Unlock()
	return guestagent.Drops{Oversize: d.longer}
}

func (d *tunnel) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// A device of one's own stands behind the agent's gate as a network interface does.
func ExampleAgent_OpenDevice() {
	agent, err := guestagent.Start(guestagent.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer agent.Close()
	in, out := make(chan []byte, 8), make(chan []byte, 8)
	port, err := agent.OpenDevice(&tunnel{in: in, out: out, closed: make(chan struct{})})
	if err != nil {
		log.Fatal(err)
	}

	in <- []byte("hello")
	packets := make([]*guestagent.Packet, 32)
	n, err := port.RxWait(0, packets, -1)
	if err != nil {
		log.Fatal(err)
	}
	sent := port.TxBurst(0, packets[:n]) // back to where it came from
	port.Free(0, packets[sent:n])
	fmt.Printf("%s, %d received\n", <-out, port.Stats().Received)
	// Output: hello, 1 received
}
