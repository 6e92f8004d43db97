package lab

import (
	"fmt"
	"io"
	"math"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// WritePCAP writes remembered frames as a pcapng file, with an interface for
// each host's uplink ("a/in"). Frames are cut to their first 128 bytes.
func WritePCAP(w io.Writer, frames []Frame) error {
	var ng *pcapgo.NgWriter
	ids := map[string]int{}
	for _, f := range frames {
		name := f.Host + "/" + f.Port
		id, known := ids[name]
		if !known {
			var err error
			if ng, id, err = addInterface(ng, w, name); err != nil {
				return fmt.Errorf("write capture: %w", err)
			}
			ids[name] = id
		}
		info := gopacket.CaptureInfo{Timestamp: f.Time, CaptureLength: len(f.Head),
			Length: f.Length, InterfaceIndex: id}
		if err := ng.WritePacket(info, f.Head); err != nil {
			return fmt.Errorf("write capture: %w", err)
		}
	}
	if ng == nil {
		return nil
	}
	return ng.Flush()
}

func addInterface(ng *pcapgo.NgWriter, w io.Writer, name string) (*pcapgo.NgWriter, int, error) {
	about := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet,
		SnapLength: math.MaxUint16, TimestampResolution: 9}
	if ng == nil {
		ng, err := pcapgo.NewNgWriterInterface(w, about, pcapgo.DefaultNgWriterOptions)
		return ng, 0, err
	}
	id, err := ng.AddInterface(about)
	return ng, id, err
}
