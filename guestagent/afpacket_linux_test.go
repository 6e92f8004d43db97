package guestagent

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var _ Device = (*afpacket)(nil)

// veths makes a pair of interfaces in a network namespace that ends with the
// test. The test's goroutine is the only one in there.
func veths(t *testing.T) (a, b string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	// Never unlocked: the thread, and the namespace, end with the goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("needs a network namespace: ", err)
	}
	a, b = "sp-a", "sp-b"
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a, NumTxQueues: 1, NumRxQueues: 1}, PeerName: b}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal("add veth pair: ", err)
	}
	for _, name := range []string{a, b} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func openPorts(t *testing.T, o PortOptions) (*Agent, *Port, *Port) {
	t.Helper()
	nameA, nameB := veths(t)
	a, err := Start(Config{Open: func() (io.ReadWriteCloser, error) { return nil, io.EOF }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	portA, err := a.OpenPort(nameA, PortOptions{})
	if err != nil {
		t.Fatal(err)
	}
	portB, err := a.OpenPort(nameB, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, portA, portB
}

// testFrame has an EtherType of its own, to be told from the kernel's frames.
func testFrame(n, length int) []byte {
	f := make([]byte, length)
	copy(f, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x09\x88\xb5")
	binary.BigEndian.PutUint32(f[14:], uint32(n))
	return f
}

func isTest(f []byte) bool { return len(f) >= 18 && f[12] == 0x88 && f[13] == 0xb5 }

func sendFrames(t *testing.T, p *Port, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		packet := p.Alloc(0)
		if packet == nil || !packet.Set(f) {
			t.Fatal("no packet to send")
		}
		if p.TxBurst(0, []*Packet{packet}) != 1 {
			t.Fatal("not sent")
		}
	}
}

// receiveTest returns the next n test frames.
func receiveTest(t *testing.T, p *Port, queue, n int) [][]byte {
	t.Helper()
	var frames [][]byte
	limit := time.Now().Add(time.Minute)
	packets := make([]*Packet, 32)
	for len(frames) < n && time.Now().Before(limit) {
		got, err := p.RxWait(queue, packets, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, packet := range packets[:got] {
			if isTest(packet.Data) {
				frames = append(frames, bytes.Clone(packet.Data))
			}
		}
		p.Free(0, packets[:got])
	}
	if len(frames) != n {
		t.Fatalf("%d frames of %d: %+v", len(frames), n, p.Stats())
	}
	return frames
}

func TestAFPacketPassesFrames(t *testing.T) {
	_, a, b := openPorts(t, PortOptions{RingSlots: 128})
	const total = 1000 // several times round the ring
	for n := 0; n < total; n += 50 {
		for i := range 50 {
			sendFrames(t, a, testFrame(n+i, 60+(n+i)%1400))
		}
		for i, f := range receiveTest(t, b, 0, 50) {
			if !bytes.Equal(f, testFrame(n+i, 60+(n+i)%1400)) {
				t.Fatalf("frame %d is %x", n+i, f)
			}
		}
	}
	if s := b.Stats(); s.Received < total || s.Drops != (Drops{}) {
		t.Errorf("%+v", s)
	}
}

func TestAFPacketKeepsFramesInThePause(t *testing.T) {
	agent, a, b := openPorts(t, PortOptions{})
	packet := a.Alloc(0)
	packet.Set(testFrame(1, 100))
	agent.gate.Close()
	a.TxBurst(0, []*Packet{packet})
	waitStill(t, agent.gate)
	if n, err := b.RxWait(0, make([]*Packet, 1), 20*time.Millisecond); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if b.Stats().Received == 0 {
		t.Error("did not reach the port")
	}
	agent.gate.Open()
	receiveTest(t, b, 0, 1)
}

func TestAFPacketCountsWhatItLoses(t *testing.T) {
	_, a, b := openPorts(t, PortOptions{RingSlots: 32})
	for i := range 200 {
		sendFrames(t, a, testFrame(i, 100))
	}
	if d := b.Stats().Drops; d.Full == 0 {
		t.Errorf("%+v", d)
	}
	sendFrames(t, a, testFrame(0, 1900)) // over the MTU: never sent
	if d := a.Stats().Drops; d.Transmit != 1 {
		t.Errorf("%+v", d)
	}
}

// A VLAN tag is where it was on the wire.
func TestAFPacketKeepsTags(t *testing.T) {
	_, a, b := openPorts(t, PortOptions{})
	plain := testFrame(7, 100)
	tagged := append(bytes.Clone(plain[:12]), 0x81, 0x00, 0x60, 0x2a)
	tagged = append(tagged, plain[12:]...)
	sendFrames(t, a, tagged)
	packets := make([]*Packet, 1)
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		n, _ := b.RxWait(0, packets, time.Second)
		if n == 1 && bytes.Equal(packets[0].Data, tagged) {
			b.Free(0, packets)
			return
		}
		b.Free(0, packets[:n])
	}
	t.Fatal("not received as sent")
}

func TestAFPacketCloseEndsWaiting(t *testing.T) {
	_, _, b := openPorts(t, PortOptions{})
	ended := make(chan error, 1)
	go func() {
		packets := make([]*Packet, 8)
		for {
			n, err := b.RxWait(0, packets, -1)
			if err != nil {
				ended <- err
				return
			}
			b.Free(0, packets[:n])
		}
	}()
	b.Close()
	if err := <-ended; err != ErrClosed {
		t.Error(err)
	}
}

func TestAFPacketAllocatesNothing(t *testing.T) {
	_, a, b := openPorts(t, PortOptions{})
	packets := make([]*Packet, 8)
	one := packets[:1]
	frame := testFrame(1, 100)
	exchange := func() {
		one[0] = a.Alloc(0)
		one[0].Set(frame)
		a.TxBurst(0, one)
		n, _ := b.RxWait(0, packets, -1)
		b.Free(0, packets[:n])
	}
	for range 200 {
		exchange()
	}
	if n := testing.AllocsPerRun(1000, exchange); n >= 1 {
		t.Errorf("%v allocations per burst", n)
	}
}

func TestAFPacketFanout(t *testing.T) {
	_, a, b := openPorts(t, PortOptions{RxQueues: 2})
	for i := range 20 {
		sendFrames(t, a, testFrame(i, 100))
	}
	total := 0
	packets := make([]*Packet, 32)
	for limit := time.Now().Add(time.Minute); total < 20 && time.Now().Before(limit); {
		for q := range 2 {
			n := b.RxBurst(q, packets)
			for _, p := range packets[:n] {
				if isTest(p.Data) {
					total++
				}
			}
			b.Free(q, packets[:n])
		}
		runtime.Gosched()
	}
	if total != 20 {
		t.Errorf("%d frames of 20", total)
	}
}

func TestCompleteChecksum(t *testing.T) {
	frame := []byte{9, 9, 0, 10, 0, 0, 1, 2, 3}
	completeChecksum(frame, 2, 4)
	sum := uint32(0)
	for _, w := range []uint16{10, binary.BigEndian.Uint16(frame[4:]), 0x0102, 0x0300} {
		sum += uint32(w)
	}
	if sum != 0xffff || frame[0] != 9 {
		t.Errorf("%x", frame)
	}
	for _, bad := range [][2]int{{99, 99}, {0, 8}, {4, 2}} {
		completeChecksum(frame, bad[0], bad[1]) // no panic
	}
}
