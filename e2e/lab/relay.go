package lab

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	relayFrame  = 1 << 17  // a 64 KiB segment with headers, and room
	relayFrames = 1 << 14  // on their way per port; more are dropped
	relayBytes  = 64 << 20 // the same, in bytes
	relayBuffer = 16 << 20 // of each socket
)

// relay replaces a bridge by a hub that delivers each frame a constant time
// after it came. It needs no queueing discipline that a kernel may lack.
type relay struct {
	delay   time.Duration
	ports   map[string]*relayPort
	stopped chan struct{}
	owned   sync.WaitGroup
}

type relayPort struct {
	name    string
	socket  *packetSocket
	plugged atomic.Bool
	onWay   chan delayed
	bytes   atomic.Int64
}

type delayed struct {
	due   time.Time
	frame []byte // with its virtio header
}

func startRelay(s *Space, ports []string, d time.Duration) (*relay, error) {
	r := &relay{delay: d, ports: map[string]*relayPort{}, stopped: make(chan struct{})}
	for _, name := range ports {
		// With virtio headers, segments pass whole and unfinished checksums
		// as they are.
		socket, err := openPacket(s, name, relayBuffer,
			socketOption{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
			socketOption{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1})
		if err != nil {
			r.close()
			return nil, fmt.Errorf("start relay: %w", err)
		}
		p := &relayPort{name: name, socket: socket, onWay: make(chan delayed, relayFrames)}
		p.plugged.Store(true)
		r.ports[name] = p
	}
	for _, p := range r.ports {
		r.owned.Go(func() { r.receive(p) })
		r.owned.Go(func() { r.deliver(p) })
	}
	return r, nil
}

func (r *relay) plugged(port string, yes bool) {
	if p := r.ports[port]; p != nil {
		p.plugged.Store(yes)
	}
}

func (r *relay) receive(p *relayPort) {
	buf := make([]byte, relayFrame)
	p.socket.raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.Read(int(fd), buf)
			if err == unix.EAGAIN {
				return false
			}
			// Anything else (ENETDOWN, a frame with strange offloads) costs
			// this frame only; close() ends the loop.
			if err == nil && p.plugged.Load() {
				r.accept(p, buf[:n])
			}
			select {
			case <-r.stopped:
				return true
			default:
			}
		}
	})
}

func (r *relay) accept(p *relayPort, frame []byte) {
	size := int64(len(frame))
	if p.bytes.Load()+size > relayBytes {
		return
	}
	d := delayed{time.Now().Add(r.delay), append([]byte(nil), frame...)}
	select {
	case p.onWay <- d:
		p.bytes.Add(size)
	default:
	}
}

func (r *relay) deliver(p *relayPort) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.stopped:
			return
		case d := <-p.onWay:
			p.bytes.Add(-int64(len(d.frame)))
			timer.Reset(time.Until(d.due))
			select {
			case <-r.stopped:
				return
			case <-timer.C:
			}
			r.flood(p, d.frame)
		}
	}
}

func (r *relay) flood(from *relayPort, frame []byte) {
	for _, to := range r.ports {
		if to == from || !to.plugged.Load() || !from.plugged.Load() {
			continue
		}
		to.socket.raw.Control(func(fd uintptr) {
			unix.Write(int(fd), frame) // a full queue drops, as wires do
		})
	}
}

func (r *relay) stop() {
	close(r.stopped)
	r.close()
	r.owned.Wait()
}

func (r *relay) close() {
	for _, p := range r.ports {
		p.socket.file.Close()
	}
}
