// Package gopacketsource lets programs that read packets with github.com/gopacket/gopacket,
// the fork that is maintained, run behind the agent. For github.com/google/gopacket there
// is googlegopacketsource.
//
// It is a module of its own: gopacket needs a newer Go than the agent, and what a go.mod
// requires is inherited by all who use any of its packages.
package gopacketsource

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"

	"github.com/stillpoint-ft/stillpoint/guestagent"
)

// A Source reads a receive queue in gopacket's manner: it is a
// gopacket.PacketDataSource and a gopacket.ZeroCopyPacketDataSource, and writes
// like the handles of gopacket's capture packages.
//
// The packet read last counts as held by the application until the next read or
// Release, and can be sent on by Forward. Do not pass packets on to other goroutines, as
// the channel of gopacket.PacketSource.Packets does: what has been passed on is not seen,
// and the host may copy the machine in the midst of it. Take them by NextPacket.
//
// A Source is for one goroutine, and so are the two queues it was made with.
type Source struct {
	*guestagent.Source
	index int // of the interface
}

// New returns a source on a receive queue that sends through a transmit queue; nobody
// else may use the two. One that the port does not have is a panic at its first use.
func New(port *guestagent.Port, rxQueue, txQueue int) *Source {
	return &Source{port.Source(rxQueue, txQueue), port.Info().Index}
}

// ReadPacketData returns a copy of the next packet, which the caller may keep.
// It waits for one, for as long as it takes, and returns io.EOF when the port is closed,
// or the error with which the device fails.
func (s *Source) ReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	data, ci, err := s.ZeroCopyReadPacketData()
	return bytes.Clone(data), ci, err
}

// ZeroCopyReadPacketData returns the next packet; the data is good until the next read
// or Release, and may be changed. Otherwise it is as ReadPacketData.
func (s *Source) ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	p, err := s.Next()
	if errors.Is(err, guestagent.ErrClosed) {
		return nil, gopacket.CaptureInfo{}, io.EOF
	}
	if err != nil {
		return nil, gopacket.CaptureInfo{}, fmt.Errorf("read from %s: %w", s.Port().Info().Name, err)
	}
	return p.Data, gopacket.CaptureInfo{
		Timestamp: p.Time, CaptureLength: len(p.Data), Length: len(p.Data), InterfaceIndex: s.index,
	}, nil
}
