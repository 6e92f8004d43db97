package lab

import (
	"bytes"
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

// relay replaces a bridge by a hub that delivers each frame as a Shape says.
// It needs no queueing discipline that a kernel may lack.
type relay struct {
	ports   map[string]*relayPort
	stopped chan struct{}
	owned   sync.WaitGroup
}

type relayPort struct {
	name    string
	socket  *packetSocket
	plugged atomic.Bool
	shaper  *shaper // the receiving goroutine's
	onWay   *onWay
}

func startRelay(s *Space, ports []string, shape Shape) (*relay, error) {
	r := &relay{ports: map[string]*relayPort{}, stopped: make(chan struct{})}
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
		p := &relayPort{name: name, socket: socket, shaper: newShaper(shape, name), onWay: newOnWay()}
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
				p.accept(buf[:n])
			}
			if r.ended() {
				return true
			}
		}
	})
}

func (r *relay) ended() bool {
	select {
	case <-r.stopped:
		return true
	default:
		return false
	}
}

func (p *relayPort) accept(frame []byte) {
	due, lost := p.shaper.frame(time.Now())
	if !lost {
		p.onWay.put(due, bytes.Clone(frame))
	}
}

func (r *relay) deliver(p *relayPort) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		frame, wait := p.onWay.take(time.Now())
		if frame != nil {
			r.flood(p, frame)
			if !r.ended() {
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-r.stopped:
			return
		case <-p.onWay.earlier:
		case <-timer.C:
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
