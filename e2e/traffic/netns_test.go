package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serverAddr = netip.MustParseAddr("192.0.2.2")

// twoNamespaces makes a client's and a server's namespace joined by a veth.
func twoNamespaces(t *testing.T) (client, server string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	client, server = fmt.Sprintf("sptraf%d-c", os.Getpid()), fmt.Sprintf("sptraf%d-s", os.Getpid())
	for _, name := range []string{client, server} {
		makeNamespace(t, name)
	}
	c, s := handle(t, client), handle(t, server)
	peer, err := netns.GetFromName(server)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(peer)}
	if err := c.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	setUp(t, c, "192.0.2.1/24")
	setUp(t, s, "192.0.2.2/24")
	return client, server
}

func makeNamespace(t *testing.T, name string) {
	t.Helper()
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // NewNamed moves the thread
		ns, err := netns.NewNamed(name)
		if err == nil {
			ns.Close()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.DeleteNamed(name); err != nil {
			t.Error(err)
		}
	})
}

func handle(t *testing.T, name string) *netlink.Handle {
	t.Helper()
	ns, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func setUp(t *testing.T, h *netlink.Handle, address string) {
	t.Helper()
	link, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.AddrAdd(link, addr), h.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
}

func TestProbesBetweenNamespaces(t *testing.T) {
	client, server := twoNamespaces(t)
	r := NewRecorder(10000)
	s, err := StartUDPServer(server, netip.AddrPortFrom(serverAddr, 7000), r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := StartUDPClient(client, UDPClientOptions{Server: s.Addr(), Rate: 1000, Limit: 500, Padding: 100}, r)
	if err != nil {
		t.Fatal(err)
	}
	c.sender.Wait()
	if err := errors.Join(c.Stop(), s.Close()); err != nil {
		t.Fatal(err)
	}
	v := Judge(r.Log())
	if v.Sent != 1000 || v.Received != 1000 || v.Unstamped != 1000 || v.Reordered+v.Duplicated+v.Rollbacks != 0 {
		t.Fatal(v)
	}
	if d := RoundTrips(r.Log()); d.Count != 500 || d.P50 <= 0 {
		t.Fatalf("%+v", d)
	}
}

func TestServerAnswersOnceAndOnlyProbes(t *testing.T) {
	r := NewRecorder(100)
	s, err := StartUDPServer("", netip.MustParseAddrPort("127.0.0.1:0"), r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := make([]byte, 48)
	copy(request, "SPROBE01")
	for _, b := range [][]byte{[]byte("garbage"), request, request, request[:47]} {
		conn.Write(b)
	}
	request[23] = 1 // seq 1
	conn.Write(request)
	answer := make([]byte, 100)
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	for seq := range byte(2) {
		if n, err := conn.Read(answer); err != nil || n != 48 || answer[23] != seq || answer[12] != 1 {
			t.Fatalf("answer %d: %x, %v", seq, answer[:n], err)
		}
	}
	if sent, received := r.Counts(); sent != 2 || received != 3 || s.Refused() != 2 {
		t.Fatalf("%d answers, %d requests recorded, %d refused", sent, received, s.Refused())
	}
}

func TestTransferBetweenNamespaces(t *testing.T) {
	client, server := twoNamespaces(t)
	s, err := StartTCPServer(server, netip.AddrPortFrom(serverAddr, 7001))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, o := range map[string]TransferOptions{
		"limited in size": {Bytes: 10_000_001},
		"limited in rate": {Bytes: 300_000, Rate: 3_000_000},
		"empty":           {Bytes: 1, Seed: 3},
	} {
		o.Server = s.Addr()
		tr, err := StartTransfer(ctx, client, o)
		if err != nil {
			t.Fatal(err)
		}
		if r := tr.Wait(ctx); !r.Intact || r.Sent != o.Bytes || r.Received != o.Bytes || r.Err != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	open, err := StartTransfer(ctx, client, TransferOptions{Server: s.Addr(), Rate: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if r := open.Finish(ctx); !r.Intact {
		t.Errorf("until told to finish: %+v", r)
	}
}

// The other end answers with a wrong hash, or not in full.
func TestTransferNotIntact(t *testing.T) {
	for name, answer := range map[string][]byte{"wrong hash": make([]byte, answerLen), "cut answer": make([]byte, 9)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Read(make([]byte, 100))
				c.Write(answer)
				c.Close()
			}
		}()
		tr, err := StartTransfer(t.Context(), "", TransferOptions{Server: l.Addr().(*net.TCPAddr).AddrPort(), Bytes: 10})
		if err != nil {
			t.Fatal(err)
		}
		if r := tr.Wait(t.Context()); r.Intact {
			t.Errorf("%s: %+v", name, r)
		}
		l.Close()
	}
}

func TestStalledTransferEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // never accepts, never reads
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr, err := StartTransfer(t.Context(), "", TransferOptions{Server: l.Addr().(*net.TCPAddr).AddrPort()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := tr.Finish(ctx); r.Intact || r.Err == nil {
		t.Fatalf("%+v", r)
	}
}

func TestNoSuchNamespace(t *testing.T) {
	if err := In("sptraf-none", func() error { return nil }); err == nil {
		t.Fatal("entered a namespace that is not there")
	}
}
