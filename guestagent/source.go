package guestagent

import (
	"fmt"
	"time"
)

// A Source reads a receive queue packet by packet, for programs that work on one at a
// time. The packages gopacketsource and googlegopacketsource beside this one make a
// source of gopacket's of it.
//
// The packet read last counts as held by the application until the next read
// or Release. So a program that reads, works, writes and reads again is
// protected as it is. One that passes packets on to other goroutines must not: what it
// has passed on is not seen. It should use the port's queues.
//
// A Source is for one goroutine, and so are the two queues it was made with.
type Source struct {
	port   *Port
	rx, tx int
	held   [1]*Packet // by the application, or nil
	out    [1]*Packet
}

// Source returns a source on a receive queue that sends through a transmit
// queue; nobody else may use the two. One that the port does not have is a panic at its
// first use.
func (p *Port) Source(rxQueue, txQueue int) *Source {
	return &Source{port: p, rx: rxQueue, tx: txQueue}
}

// Port is where the source reads and writes.
func (s *Source) Port() *Port { return s.port }

// Next returns the next packet, which is good until the next call of Next or Release; it
// is the source's, to be passed to Forward and not to TxBurst or Free. Next waits for
// one, for as long as it takes, and returns ErrClosed when the port is closed, or the
// error with which the device fails.
func (s *Source) Next() (*Packet, error) {
	s.Release()
	if _, err := s.port.RxWait(s.rx, s.held[:], -1); err != nil {
		s.held[0] = nil // what a burst of none leaves there
		return nil, err
	}
	return s.held[0], nil
}

// Release says that the application has done with the packet read last. There
// need not be one. It does not wait.
func (s *Source) Release() {
	if s.held[0] != nil {
		s.port.Free(s.tx, s.held[:])
		s.held[0] = nil
	}
}

// Forward sends the packet read last, as the application has left it, through
// a transmit queue of some port that belongs to this goroutine. It does not wait. It
// reports false if no packet is held, or if the device has no room: the packet is still
// held then.
func (s *Source) Forward(port *Port, txQueue int) bool {
	if s.held[0] == nil || port.TxBurst(txQueue, s.held[:]) == 0 {
		return false
	}
	s.held[0] = nil
	return true
}

// WritePacketData sends a copy of data, a frame without FCS. While a packet is held it
// works with the gate closed: it is taken for the answer. Otherwise it waits for the gate.
// It also waits, for as long as it takes, while all buffers are held or the device has no
// room. It returns ErrClosed when the port is closed meanwhile, and another error if data
// is longer than a buffer (Config.BufferSize).
func (s *Source) WritePacketData(data []byte) error {
	if err := s.allocate(); err != nil {
		return err
	}
	if !s.out[0].Set(data) {
		room := s.out[0].Room()
		s.port.Free(s.tx, s.out[:])
		return fmt.Errorf("send on %s: %d bytes, at most %d", s.port.info.Name, len(data), room)
	}
	for s.port.TxBurst(s.tx, s.out[:]) == 0 {
		if err := s.port.breathe(); err != nil {
			s.port.Free(s.tx, s.out[:])
			return err
		}
	}
	return nil
}

// allocate gets a packet to send.
func (s *Source) allocate() error {
	for {
		if s.held[0] != nil {
			s.out[0] = s.port.Derive(s.tx, s.held[0])
		} else {
			s.out[0] = s.port.Alloc(s.tx)
		}
		if s.out[0] != nil {
			return nil
		}
		if s.held[0] == nil && s.port.gate.Closed() {
			if err := s.port.park(nil, -1); err != nil {
				return err
			}
		} else if err := s.port.breathe(); err != nil {
			return err
		}
	}
}

// breathe waits a moment for buffers, or for the device to have room again.
func (p *Port) breathe() error {
	select {
	case <-p.done:
		return ErrClosed
	case <-time.After(200 * time.Microsecond):
		return nil
	}
}
