package agent

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

const (
	quiesceSize = 16
	resumeSize  = 17
	busySize    = 20
	resumedSize = 9

	// MaxPorts is how many ports a Welcome or a Quiescent can name.
	MaxPorts = 32
	// MaxName is the longest name or version in bytes.
	MaxName = 24
)

// Quiesce asks for a still point.
type Quiesce struct {
	Request  uint64        // running number within the session, from 1
	Deadline time.Duration // for the still point, whole microseconds
	Hold     time.Duration // the gate opens by itself so long after the request
}

// Append appends the payload to b.
func (q Quiesce) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, q.Request)
	b = binary.BigEndian.AppendUint32(b, microseconds(q.Deadline))
	return binary.BigEndian.AppendUint32(b, microseconds(q.Hold))
}

// DecodeQuiesce reads a payload.
func DecodeQuiesce(p []byte) (Quiesce, error) {
	if len(p) != quiesceSize {
		return Quiesce{}, wrongSize(TypeQuiesce, len(p))
	}
	return Quiesce{
		Request:  binary.BigEndian.Uint64(p),
		Deadline: time.Duration(binary.BigEndian.Uint32(p[8:])) * time.Microsecond,
		Hold:     time.Duration(binary.BigEndian.Uint32(p[12:])) * time.Microsecond,
	}, nil
}

// microseconds of d, at the ends of what fits.
func microseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

// Resume lets packets flow again.
type Resume struct {
	Request    uint64 // the last Quiesce that this host sent, 0 if none
	TakenOver  bool   // the machine runs on another host than at its checkpoint
	Generation uint64 // of the pair, as the arbiter counts
}

// Append appends the payload to b.
func (r Resume) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.Request)
	b = append(b, boolean(r.TakenOver))
	return binary.BigEndian.AppendUint64(b, r.Generation)
}

// DecodeResume reads a payload.
func DecodeResume(p []byte) (Resume, error) {
	if len(p) != resumeSize {
		return Resume{}, wrongSize(TypeResume, len(p))
	}
	if p[8] > 1 {
		return Resume{}, fmt.Errorf("%w: resume with flag %d", ErrMalformed, p[8])
	}
	return Resume{
		Request:    binary.BigEndian.Uint64(p),
		TakenOver:  p[8] == 1,
		Generation: binary.BigEndian.Uint64(p[9:]),
	}, nil
}

// Busy says that the deadline passed without a still point. The gate is open
// again.
type Busy struct {
	Request uint64
	Packets uint64 // in the application
	Queues  uint32 // inside a receive call
}

// Append appends the payload to b.
func (m Busy) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Request)
	b = binary.BigEndian.AppendUint64(b, m.Packets)
	return binary.BigEndian.AppendUint32(b, m.Queues)
}

// DecodeBusy reads a payload.
func DecodeBusy(p []byte) (Busy, error) {
	if len(p) != busySize {
		return Busy{}, wrongSize(TypeBusy, len(p))
	}
	return Busy{
		Request: binary.BigEndian.Uint64(p),
		Packets: binary.BigEndian.Uint64(p[8:]),
		Queues:  binary.BigEndian.Uint32(p[16:]),
	}, nil
}

// Resumed says that packets flow again.
type Resumed struct {
	Request uint64 // the last Quiesce that the guest saw in this session
	Expired bool   // the gate opened by itself: no Resume came in time
}

// Append appends the payload to b.
func (m Resumed) Append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, m.Request), boolean(m.Expired))
}

// DecodeResumed reads a payload.
func DecodeResumed(p []byte) (Resumed, error) {
	if len(p) != resumedSize {
		return Resumed{}, wrongSize(TypeResumed, len(p))
	}
	if p[8] > 1 {
		return Resumed{}, fmt.Errorf("%w: resumed with flag %d", ErrMalformed, p[8])
	}
	return Resumed{Request: binary.BigEndian.Uint64(p), Expired: p[8] == 1}, nil
}

// A PortInfo describes a port of the application.
type PortInfo struct {
	Name     string // at most MaxName bytes
	RxQueues uint16
	TxQueues uint16
}

// Welcome says who is in the guest. It answers Hello, and is sent unasked when
// the guest's end opens or its ports change.
type Welcome struct {
	Library string // version of the library, at most MaxName bytes
	Ports   []PortInfo
}

// Append appends the payload to b; names longer than MaxName are cut and ports
// beyond MaxPorts left out.
func (w Welcome) Append(b []byte) []byte {
	ports := w.Ports[:min(len(w.Ports), MaxPorts)]
	b = appendName(b, w.Library)
	b = append(b, byte(len(ports)))
	for _, p := range ports {
		b = appendName(b, p.Name)
		b = binary.BigEndian.AppendUint16(b, p.RxQueues)
		b = binary.BigEndian.AppendUint16(b, p.TxQueues)
	}
	return b
}

// DecodeWelcome reads a payload.
func DecodeWelcome(p []byte) (Welcome, error) {
	library, rest, err := cutName(p)
	if err != nil {
		return Welcome{}, err
	}
	n, rest, err := cutCount(rest)
	if err != nil {
		return Welcome{}, err
	}
	w := Welcome{Library: library}
	for range n {
		var port PortInfo
		if port.Name, rest, err = cutName(rest); err != nil {
			return Welcome{}, err
		}
		if len(rest) < 4 {
			return Welcome{}, fmt.Errorf("%w: welcome cut off in a port", ErrMalformed)
		}
		port.RxQueues, port.TxQueues = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		rest = rest[4:]
		w.Ports = append(w.Ports, port)
	}
	if len(rest) != 0 {
		return Welcome{}, fmt.Errorf("%w: %d bytes after a welcome", ErrMalformed, len(rest))
	}
	return w, nil
}

// PortCounters are a port's packets since the port was opened.
type PortCounters struct {
	Rx uint64 // reached the port: handed out, waiting in it, or lost for want of room
	Tx uint64 // sent by the application
}

// Quiescent says that no packet is in the application and none will enter it.
type Quiescent struct {
	Request uint64
	Ports   []PortCounters // in the order of Welcome
}

// Append appends the payload to b; ports beyond MaxPorts are left out.
func (q Quiescent) Append(b []byte) []byte {
	ports := q.Ports[:min(len(q.Ports), MaxPorts)]
	b = binary.BigEndian.AppendUint64(b, q.Request)
	b = append(b, byte(len(ports)))
	for _, p := range ports {
		b = binary.BigEndian.AppendUint64(b, p.Rx)
		b = binary.BigEndian.AppendUint64(b, p.Tx)
	}
	return b
}

// DecodeQuiescent reads a payload.
func DecodeQuiescent(p []byte) (Quiescent, error) {
	if len(p) < 9 {
		return Quiescent{}, wrongSize(TypeQuiescent, len(p))
	}
	n, rest, err := cutCount(p[8:])
	if err != nil {
		return Quiescent{}, err
	}
	if len(rest) != 16*n {
		return Quiescent{}, wrongSize(TypeQuiescent, len(p))
	}
	q := Quiescent{Request: binary.BigEndian.Uint64(p)}
	for ; len(rest) > 0; rest = rest[16:] {
		q.Ports = append(q.Ports, PortCounters{
			Rx: binary.BigEndian.Uint64(rest), Tx: binary.BigEndian.Uint64(rest[8:]),
		})
	}
	return q, nil
}

func wrongSize(t Type, n int) error {
	return fmt.Errorf("%w: %v of %d bytes", ErrMalformed, t, n)
}

func boolean(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendName(b []byte, s string) []byte {
	s = s[:min(len(s), MaxName)]
	return append(append(b, byte(len(s))), s...)
}

func cutName(p []byte) (string, []byte, error) {
	if len(p) < 1 || int(p[0]) > MaxName || len(p) < 1+int(p[0]) {
		return "", nil, fmt.Errorf("%w: name cut off or over %d bytes", ErrMalformed, MaxName)
	}
	end := 1 + int(p[0])
	return string(p[1:end]), p[end:], nil
}

func cutCount(p []byte) (int, []byte, error) {
	if len(p) < 1 || p[0] > MaxPorts {
		return 0, nil, fmt.Errorf("%w: no number of ports, or over %d", ErrMalformed, MaxPorts)
	}
	return int(p[0]), p[1:], nil
}
