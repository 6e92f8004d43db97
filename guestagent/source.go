package guestagent

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
)

// A Source reads a receive queue in gopacket's manner: it is a
// gopacket.PacketDataSource and a gopacket.ZeroCopyPacketDataSource, and writes
// like the handles of gopacket's capture packages.
//
// The packet read last counts as held by the application until the next read
// or Release. So a program that reads, works, writes and reads again is
// protected as it is. One that passes packets on to other goroutines (the
// channel of gopacket.PacketSource.Packets does) must not: what it has passed
// on is not seen. It should use the port's queues.
//
// A Source is for one goroutine, and so are the two queues it was made with.
type Source struct {
	port   *Port
	rx, tx int
	held   [1]*Packet // by the application, or nil
	out    [1]*Packet
}

// Source returns a source on a receive queue that sends through a transmit
// queue; nobody else may use the two.
func (p *Port) Source(rxQueue, txQueue int) *Source {
	return &Source{port: p, rx: rxQueue, tx: txQueue}
}

// ReadPacketData returns a copy of the next packet, which the caller may keep.
// It waits for one, and returns io.EOF when the port is closed.
func (s *Source) ReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	data, ci, err := s.ZeroCopyReadPacketData()
	return append([]byte(nil), data...), ci, err
}

// ZeroCopyReadPacketData returns the next packet; the data is good until the
// next read or Release. It waits, and returns io.EOF when the port is closed.
func (s *Source) ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	s.Release()
	_, err := s.port.RxWait(s.rx, s.held[:], -1)
	if errors.Is(err, ErrClosed) {
		return nil, gopacket.CaptureInfo{}, io.EOF
	}
	if err != nil {
		return nil, gopacket.CaptureInfo{}, err
	}
	p := s.held[0]
	return p.Data, gopacket.CaptureInfo{
		Timestamp: p.Time, CaptureLength: len(p.Data), Length: len(p.Data),
		InterfaceIndex: s.port.info.Index,
	}, nil
}

// Release says that the application has done with the packet read last. There
// need not be one.
func (s *Source) Release() {
	if s.held[0] != nil {
		s.port.Free(s.tx, s.held[:])
		s.held[0] = nil
	}
}

// Forward sends the packet read last, as the application has left it, through
// a transmit queue of some port that belongs to this goroutine. It reports
// false, and the packet is still held, if the device has no room.
func (s *Source) Forward(port *Port, txQueue int) bool {
	if s.held[0] == nil || port.TxBurst(txQueue, s.held[:]) == 0 {
		return false
	}
	s.held[0] = nil
	return true
}

// WritePacketData sends a copy of data. While a packet is held it works with
// the gate closed: it is taken for the answer. Otherwise it waits for the gate.
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
