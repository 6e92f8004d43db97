package lab

import (
	"bytes"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestOwnMount: a directory of namespaces is mounted on itself once, whoever comes first,
// so that nobody mounts it over what is in it.
func TestOwnMount(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	mounts := func() int {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), " "+dir+" ")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := ownMount(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for mounts() > 0 {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n := mounts(); n != 1 {
		t.Errorf("%d mounts", n)
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil { // what ip(8) asks first
		t.Error(err)
	}
}

// TestAnEndKeepsASilentNeighbour: what is sent to a machine that is silent is never kept
// to be let go later, all at once. The end goes on asking the machine itself, and does not
// ask everybody where it is.
func TestAnEndKeepsASilentNeighbour(t *testing.T) {
	l := newLab(t, Options{})
	for path, value := range map[string]string{"retrans_time_ms": "10", "delay_first_probe_time": "0"} {
		if err := l.Client.Do(func() error {
			return os.WriteFile("/proc/sys/net/ipv4/neigh/"+endName+"/"+path, []byte(value), 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
	link, err := l.Client.links.LinkByName(endName)
	if err != nil {
		t.Fatal(err)
	}
	silent := net.HardwareAddr{2, 0, 0, 0, 0, 99}
	if err := l.Client.links.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET,
		State: netlink.NUD_STALE, IP: net.ParseIP(NATInside), HardwareAddr: silent}); err != nil {
		t.Fatal(err)
	}
	p, err := openPacket(l.Hosts[0].Space, UplinkIn, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	defer p.file.Close()
	if err := l.Client.Do(func() error {
		conn, err := net.Dial("udp", NATInside+":7")
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("there?"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p.file.SetReadDeadline(time.Now().Add(time.Minute))
	frame := make([]byte, 2048)
	const asks = 20
	for asked := 0; asked < asks; {
		n, err := p.file.Read(frame)
		if err != nil {
			t.Fatalf("the client asked %d times: %v", asked, err)
		}
		if n < 42 || !bytes.Equal(frame[12:14], []byte{0x08, 0x06}) || net.IP(frame[38:42]).String() != NATInside {
			continue
		}
		if !bytes.Equal(frame[:6], silent) {
			t.Fatalf("after %d times the client asks %v", asked, net.HardwareAddr(frame[:6]))
		}
		asked++
	}
}
