package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Hello opens a connection.
type Hello struct {
	Protocol uint16 // version that the sender speaks
	Host     string // name of the sender's host
	Machine  string // what the connection is about, empty if no machine
	Purpose  uint8  // what the connection is for; the daemons give the numbers
}

// Append appends the payload to b.
func (h Hello) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Protocol)
	b = appendString(b, h.Host)
	b = appendString(b, h.Machine)
	return append(b, h.Purpose)
}

// DecodeHello decodes a payload of [TypeHello].
func DecodeHello(p []byte) (Hello, error) {
	f := &fields{rest: p}
	h := Hello{Protocol: f.u16(), Host: f.name(), Machine: f.name(), Purpose: f.u8()}
	return done(f, TypeHello, h)
}

// Welcome answers Hello.
type Welcome struct {
	Protocol uint16 // version that both will speak
	Host     string // name of the sender's host
	// Limit is the silence, in nanoseconds, after which the sender takes the other host
	// for dead.
	Limit uint64
}

// Append appends the payload to b.
func (w Welcome) Append(b []byte) []byte {
	b = appendString(binary.BigEndian.AppendUint16(b, w.Protocol), w.Host)
	return binary.BigEndian.AppendUint64(b, w.Limit)
}

// DecodeWelcome decodes a payload of [TypeWelcome].
func DecodeWelcome(p []byte) (Welcome, error) {
	f := &fields{rest: p}
	w := Welcome{Protocol: f.u16(), Host: f.name(), Limit: f.u64()}
	return done(f, TypeWelcome, w)
}

// Reasons of a Reject, for programs.
const (
	RejectProtocol uint16 = 1 + iota // what came is not what the protocol allows
	RejectMachine                    // this host cannot be the machine's standby
	RejectReplica                    // the standby's copy is of no use
)

// Reject says no to what was asked last.
type Reject struct {
	Code   uint16 // for programs; the daemons give the numbers
	Reason string // for people, cut at MaxReason bytes
}

// Append appends the payload to b.
func (r Reject) Append(b []byte) []byte {
	return appendReason(binary.BigEndian.AppendUint16(b, r.Code), r.Reason)
}

// DecodeReject decodes a payload of [TypeReject].
func DecodeReject(p []byte) (Reject, error) {
	f := &fields{rest: p}
	r := Reject{Code: f.u16(), Reason: f.text(MaxReason)}
	return done(f, TypeReject, r)
}

// Prepare asks for a standby of a machine.
type Prepare struct {
	Spec        []byte // the machine's YAML
	MachineType string // QEMU's machine name, empty if not known yet
	Generation  uint64 // of the machine now, as the arbiter counts
}

// Append appends the payload to b.
func (m Prepare) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Spec)))
	b = append(b, m.Spec...)
	b = appendString(b, m.MachineType)
	return binary.BigEndian.AppendUint64(b, m.Generation)
}

// DecodePrepare decodes a payload of [TypePrepare].
func DecodePrepare(p []byte) (Prepare, error) {
	f := &fields{rest: p}
	m := Prepare{Spec: bytes.Clone(f.take(f.count(1))), MachineType: f.name(), Generation: f.u64()}
	return done(f, TypePrepare, m)
}

// Prepared says that the standby's QEMU waits.
type Prepared struct{ QEMUVersion string }

// Append appends the payload to b.
func (m Prepared) Append(b []byte) []byte { return appendString(b, m.QEMUVersion) }

// DecodePrepared decodes a payload of [TypePrepared].
func DecodePrepared(p []byte) (Prepared, error) {
	f := &fields{rest: p}
	m := Prepared{QEMUVersion: f.name()}
	return done(f, TypePrepared, m)
}

// Cards are what the standby has for the ports of the machine.
type Cards struct {
	// Features are the names of what the card of each port offers, as QEMU calls its
	// properties; none where its QEMU does not tell.
	Features [][]string
	// MTUs are those of each port's uplink; 0 where it is not known.
	MTUs []uint32
}

// Append appends the payload to b.
func (m Cards) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Features)))
	for _, features := range m.Features {
		b = binary.BigEndian.AppendUint32(b, uint32(len(features)))
		for _, name := range features {
			b = appendString(b, name)
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.MTUs)))
	for _, mtu := range m.MTUs {
		b = binary.BigEndian.AppendUint32(b, mtu)
	}
	return b
}

// DecodeCards decodes a payload of [TypeCards].
func DecodeCards(p []byte) (Cards, error) {
	f := &fields{rest: p}
	m := Cards{Features: make([][]string, f.count(4))}
	for i := range m.Features {
		m.Features[i] = make([]string, f.count(2))
		for k := range m.Features[i] {
			m.Features[i][k] = f.name()
		}
	}
	m.MTUs = make([]uint32, f.count(4))
	for i := range m.MTUs {
		m.MTUs[i] = f.u32()
	}
	return done(f, TypeCards, m)
}

// A Port says how the two ends of a port's wire are.
type Port struct{ Uplink, Tap End }

// An End is an uplink or a tap.
type End struct {
	State  string // "up", or why it carries nothing
	Millis uint64 // for how long it has been so
}

// Ports are the machine's at the standby, in the order of its specification.
type Ports []Port

// Append appends the payload to b.
func (m Ports) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(m)))
	for _, port := range m {
		for _, end := range []End{port.Uplink, port.Tap} {
			b = appendString(b, end.State)
			b = binary.BigEndian.AppendUint64(b, end.Millis)
		}
	}
	return b
}

// DecodePorts decodes a payload of [TypePorts].
func DecodePorts(p []byte) (Ports, error) {
	f := &fields{rest: p}
	m := make(Ports, f.count(2*(2+8)))
	for i := range m {
		for _, end := range []*End{&m[i].Uplink, &m[i].Tap} {
			*end = End{State: f.name(), Millis: f.u64()}
		}
	}
	return done(f, TypePorts, m)
}

// A Section says how QEMU's stream numbers its RAM section.
type Section struct{ ID, Instance, Version uint32 }

// A Block is a RAM block of the machine.
type Block struct {
	Name string
	Size uint64 // bytes
}

// Blocks is the machine as its QEMU describes it. Pages name a block by its
// place in the list.
type Blocks struct {
	MachineName string // QEMU's full machine name
	RAM         Section
	Blocks      []Block // at most MaxBlocks
}

// Append appends the payload to b.
func (m Blocks) Append(b []byte) []byte {
	b = appendString(b, m.MachineName)
	b = binary.BigEndian.AppendUint32(b, m.RAM.ID)
	b = binary.BigEndian.AppendUint32(b, m.RAM.Instance)
	b = binary.BigEndian.AppendUint32(b, m.RAM.Version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Blocks)))
	for _, block := range m.Blocks {
		b = appendString(b, block.Name)
		b = binary.BigEndian.AppendUint64(b, block.Size)
	}
	return b
}

// DecodeBlocks decodes a payload of [TypeBlocks].
func DecodeBlocks(p []byte) (Blocks, error) {
	f := &fields{rest: p}
	m := Blocks{MachineName: f.name(), RAM: Section{ID: f.u32(), Instance: f.u32(), Version: f.u32()}}
	n := f.count(2 + 8)
	if n > MaxBlocks {
		return Blocks{}, fmt.Errorf("replica: decode %v: %w: %d blocks, at most %d", TypeBlocks, ErrMalformed, n, MaxBlocks)
	}
	if n > 0 {
		m.Blocks = make([]Block, n)
	}
	for i := range m.Blocks {
		m.Blocks[i] = Block{Name: f.name(), Size: f.u64()}
	}
	return done(f, TypeBlocks, m)
}

const totalsSize = 8 + 8 + 4 + 4

// EpochBegin announces what an epoch consists of.
type EpochBegin struct {
	Pages     uint64 // pages with data
	ZeroPages uint64
	Device    uint32 // bytes of device state
	Output    uint32 // frames of output
}

// Append appends the payload to b.
func (e EpochBegin) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Pages)
	b = binary.BigEndian.AppendUint64(b, e.ZeroPages)
	b = binary.BigEndian.AppendUint32(b, e.Device)
	return binary.BigEndian.AppendUint32(b, e.Output)
}

// DecodeEpochBegin decodes a payload of [TypeEpochBegin].
func DecodeEpochBegin(p []byte) (EpochBegin, error) { return decodeTotals(TypeEpochBegin, p) }

func decodeTotals(t Type, p []byte) (EpochBegin, error) {
	f := &fields{rest: p}
	e := EpochBegin{Pages: f.u64(), ZeroPages: f.u64(), Device: f.u32(), Output: f.u32()}
	return done(f, t, e)
}

// EpochEnd says what was sent of an epoch. An epoch is whole if this equals
// what arrived and, as EpochBegin(end), what was announced.
type EpochEnd EpochBegin

// Append appends the payload to b.
func (e EpochEnd) Append(b []byte) []byte { return EpochBegin(e).Append(b) }

// DecodeEpochEnd decodes a payload of [TypeEpochEnd].
func DecodeEpochEnd(p []byte) (EpochEnd, error) {
	e, err := decodeTotals(TypeEpochEnd, p)
	return EpochEnd(e), err
}

const heartbeatSize = 8 + 8

// Heartbeat is the payload of [TypeHeartbeat], and of [TypeHeartbeatReply],
// which repeats it.
type Heartbeat struct {
	Seq       uint64
	SentNanos int64 // the sender's clock; means nothing to anybody else
}

// Append appends the payload to b.
func (h Heartbeat) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, h.Seq)
	return binary.BigEndian.AppendUint64(b, uint64(h.SentNanos))
}

// DecodeHeartbeat decodes a payload of [TypeHeartbeat].
func DecodeHeartbeat(p []byte) (Heartbeat, error) {
	f := &fields{rest: p}
	h := Heartbeat{Seq: f.u64(), SentNanos: int64(f.u64())}
	return done(f, TypeHeartbeat, h)
}

// An Address is one that a port of the guest has, and that the standby
// announces when it takes over.
type Address struct {
	Port uint16 // index in the machine's list of ports
	MAC  [6]byte
	IP   netip.Addr // without zone; the zero Addr if only the MAC is known
	// Router is 0 if it is not known whether an IPv6 address is a router's, 1 if it
	// is none and 2 if it is one.
	Router uint8
	// Tags are VLAN tags, outermost first, as on the wire; 0 is none.
	Tags [2]uint32
}

// Addresses is the payload of [TypeAddresses].
type Addresses struct{ List []Address }

// Append appends the payload to b.
func (a Addresses) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(a.List)))
	for _, e := range a.List {
		b = binary.BigEndian.AppendUint16(b, e.Port)
		b = append(b, e.MAC[:]...)
		b = append(b, e.Router)
		b = binary.BigEndian.AppendUint32(b, e.Tags[0])
		b = binary.BigEndian.AppendUint32(b, e.Tags[1])
		ip := e.IP.AsSlice()
		b = append(b, byte(len(ip)))
		b = append(b, ip...)
	}
	return b
}

// DecodeAddresses decodes a payload of [TypeAddresses].
func DecodeAddresses(p []byte) (Addresses, error) {
	f := &fields{rest: p}
	var a Addresses
	if n := f.count(2 + 6 + 1 + 8 + 1); n > 0 {
		a.List = make([]Address, n)
	}
	for i := range a.List {
		e := &a.List[i]
		e.Port = f.u16()
		copy(e.MAC[:], f.take(len(e.MAC)))
		e.Router = f.u8()
		e.Tags = [2]uint32{f.u32(), f.u32()}
		e.IP = f.ip()
	}
	return done(f, TypeAddresses, a)
}

func (f *fields) ip() netip.Addr {
	n := int(f.u8())
	if f.err == nil && n != 0 && n != 4 && n != 16 {
		f.err = fmt.Errorf("%w: IP address of %d bytes", ErrMalformed, n)
	}
	ip, _ := netip.AddrFromSlice(f.take(n)) // 4, 16 or none: nothing else gets here
	return ip
}

// Role tells the standby what the arbiter granted.
type Role struct {
	Generation uint64 // the one that names the standby
	Role       string
}

// Append appends the payload to b.
func (r Role) Append(b []byte) []byte {
	return appendString(binary.BigEndian.AppendUint64(b, r.Generation), r.Role)
}

// DecodeRole decodes a payload of [TypeRole].
func DecodeRole(p []byte) (Role, error) {
	f := &fields{rest: p}
	r := Role{Generation: f.u64(), Role: f.name()}
	return done(f, TypeRole, r)
}

// MachineLost says that the sender's QEMU ended.
type MachineLost struct{ Reason string } // cut at MaxReason bytes

// Append appends the payload to b.
func (m MachineLost) Append(b []byte) []byte { return appendReason(b, m.Reason) }

// DecodeMachineLost decodes a payload of [TypeMachineLost].
func DecodeMachineLost(p []byte) (MachineLost, error) {
	f := &fields{rest: p}
	m := MachineLost{Reason: f.text(MaxReason)}
	return done(f, TypeMachineLost, m)
}

// TookOver says that the machine runs on the sender's host now.
type TookOver struct{ Host string }

// Append appends the payload to b.
func (m TookOver) Append(b []byte) []byte { return appendString(b, m.Host) }

// DecodeTookOver decodes a payload of [TypeTookOver].
func DecodeTookOver(p []byte) (TookOver, error) {
	f := &fields{rest: p}
	m := TookOver{Host: f.name()}
	return done(f, TypeTookOver, m)
}

// Bye ends a connection in good order.
type Bye struct{ Reason string } // cut at MaxReason bytes

// Append appends the payload to b.
func (m Bye) Append(b []byte) []byte { return appendReason(b, m.Reason) }

// DecodeBye decodes a payload of [TypeBye].
func DecodeBye(p []byte) (Bye, error) {
	f := &fields{rest: p}
	m := Bye{Reason: f.text(MaxReason)}
	return done(f, TypeBye, m)
}
