package daemon_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// frame is one frame of a session, as it goes over the wire.
func frame(t replica.Type, epoch uint64, payload []byte) []byte {
	var b bytes.Buffer
	if err := replica.NewWriter(&b).Write(replica.Header{Type: t, Epoch: epoch}, payload); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func hello(machine string, version uint16) []byte {
	return frame(replica.TypeHello, 0, replica.Hello{Protocol: version, Host: "a", Machine: machine}.Append(nil))
}

func prepare(spec string) []byte {
	return frame(replica.TypePrepare, 0, replica.Prepare{Spec: []byte(spec)}.Append(nil))
}

func blocks(list ...replica.Block) []byte {
	return frame(replica.TypeBlocks, 0, replica.Blocks{MachineName: "pc-1", RAM: replica.Section{ID: 2, Version: 4}, Blocks: list}.Append(nil))
}

// seed is a page of the first copy.
func seed(block int, offset uint64) []byte {
	var b replica.PageBatch
	if err := b.Page(block, offset, make([]byte, replica.PageSize)); err != nil {
		panic(err)
	}
	return frame(replica.TypePages, 0, b.Append(nil))
}

// changed is a page of epoch 1.
func changed(block int, offset uint64) []byte {
	var b replica.PackedBatch
	if err := b.Page(block, offset, make([]byte, replica.PageSize)); err != nil {
		panic(err)
	}
	return frame(replica.TypePacked, 1, bytes.Join(b.Parts(), nil))
}

func begin(epoch uint64, e replica.EpochBegin) []byte {
	return frame(replica.TypeEpochBegin, epoch, e.Append(nil))
}

func end(epoch uint64, e replica.EpochBegin) []byte {
	return frame(replica.TypeEpochEnd, epoch, e.Append(nil))
}

const ramBytes = 16 << 20 // of specOf

var (
	ram   = replica.Block{Name: "ram0", Size: ramBytes}
	whole = replica.EpochBegin{Pages: 1, Device: 4, Output: 0}
)

// session is what a good primary sends for one epoch, frame by frame.
func session(machine string) [][]byte {
	return [][]byte{hello(machine, replica.ProtocolNewest), prepare(specOf(machine, "")), blocks(ram), seed(0, 0), begin(1, whole),
		changed(0, 4096), frame(replica.TypeDevice, 1, []byte("dev!")), end(1, whole)}
}

// answer is what a host said to a false peer until it hung up.
type answer struct {
	frames   []replica.Type
	acked    bool
	reject   string
	protocol uint16 // of its welcome
}

// tell plays a false peer. It hangs up when the host has nothing more to say
// for long, which a host must not do to a peer that waits.
func (h *host) tell(hangUp bool, frames ...[]byte) answer {
	h.t.Helper()
	conn := h.dialAs("a")
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write(bytes.Join(frames, nil)) // the host may hang up before the end
	if hangUp {
		conn.(*tls.Conn).CloseWrite()
	}
	var a answer
	for r := replica.NewReader(conn); ; {
		f, payload, err := r.Next()
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				h.t.Errorf("host %s neither answers nor hangs up", h.config.Host)
			}
			return a
		}
		if f.Type == replica.TypeHeartbeat {
			continue
		}
		a.frames = append(a.frames, f.Type)
		switch f.Type {
		case replica.TypeWelcome:
			welcome, err := replica.DecodeWelcome(payload)
			if err != nil {
				h.t.Error(err)
			}
			a.protocol = welcome.Protocol
		case replica.TypeAck:
			a.acked = true
		case replica.TypeReject:
			reject, err := replica.DecodeReject(payload)
			if err != nil {
				h.t.Error(err)
			}
			a.reject = reject.Reason
			return a
		}
	}
}

// gone waits until nothing of a false peer's machine is left.
func (h *host) gone(machine string) {
	h.t.Helper()
	h.await("machine "+machine+" to go", func() bool { return h.machine(machine) == nil })
}

func TestFalsePeersAreRefused(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	good := func(n int, more ...[]byte) [][]byte { return append(session("m")[:n:n], more...) }
	lie := whole
	lie.ZeroPages++
	cases := map[string]struct {
		frames [][]byte
		reason string
	}{
		"a protocol that is too old": {[][]byte{hello("m", replica.ProtocolOldest-1)}, "bring both to one release"},
		"no hello":                   {[][]byte{prepare(specOf("m", ""))}, "prepare instead of hello"},
		"two hellos":                 {[][]byte{hello("m", replica.ProtocolNewest), hello("m", replica.ProtocolNewest)}, "hello instead of prepare"},
		"a hello that is too short":  {[][]byte{frame(replica.TypeHello, 0, []byte{0, 1})}, "hello"},
		"no YAML":                    {[][]byte{hello("m", replica.ProtocolNewest), prepare("\x00\x01")}, "machine from a"},
		"YAML with a wrong field":    {[][]byte{hello("m", replica.ProtocolNewest), prepare("name: m\nmemory: 1\nunheard-of: 1\n")}, "unheard-of"},
		"another machine's spec":     {[][]byte{hello("m", replica.ProtocolNewest), prepare(specOf("n", ""))}, `said machine "m" and sent machine "n"`},
		"a path for a name":          {[][]byte{hello("../m", replica.ProtocolNewest), prepare(specOf("../m", ""))}, "machine name"},
		"a machine that is here":     {[][]byte{hello("witness", replica.ProtocolNewest), prepare(specOf("witness", ""))}, "machine witness is standby on host b"},
		"a QEMU that ends":           {[][]byte{hello("m", replica.ProtocolNewest), prepare(specOf("m", "ends"))}, "no such device"},
		"other RAM":                  {good(2, blocks(replica.Block{Name: "ram0", Size: 2 * ramBytes})), "ram0"},
		"huge private blocks":        {good(2, blocks(ram, replica.Block{Name: "x", Size: 1 << 50})), "block x"},
		"a second block list":        {good(3, blocks(ram)), "second list"},
		"a page before the blocks":   {good(2, seed(0, 0)), "block 0"},
		"a page outside of memory":   {good(3, seed(0, ramBytes)), "outside the machine's memory"},
		"a page of no block":         {good(3, seed(9, 0)), "block 9"},
		"a page without an epoch":    {good(4, changed(0, 0)), "out of order"},
		"a seed page in an epoch":    {good(5, seed(0, 0)), "seed page after an epoch"},
		"an epoch in an epoch":       {good(5, begin(2, whole)), "epoch 2"},
		"more pages than announced":  {good(6, changed(0, 0)), "more pages"},
		"an epoch without its end":   {good(6, end(1, whole)), "not what its beginning announced"},
		"totals that lie at the end": {good(7, end(1, lie)), "other totals"},
		"the end of another epoch":   {good(7, end(2, whole)), "epoch 2"},
		"too many pages":             {good(4, begin(1, replica.EpochBegin{Pages: 1 << 40})), "epoch of 1099511627776 pages"},
		"too much device state":      {good(4, begin(1, replica.EpochBegin{Device: 1 << 31})), "device state"},
		"more device than announced": {good(7, frame(replica.TypeDevice, 1, []byte{1})), "device state"},
		"output without an epoch":    {good(4, frame(replica.TypeOutput, 1, nil)), "output without an epoch"},
		"broken output":              {good(5, frame(replica.TypeOutput, 1, []byte{0, 0, 0xff, 0xff, 0xff, 0xff})), "output"},
		"broken addresses":           {good(3, frame(replica.TypeAddresses, 0, []byte{0xff, 0xff, 0xff, 0xff})), "addresses"},
		"a standby's message":        {good(3, frame(replica.TypeAck, 1, nil)), "only a standby sends"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := b.tell(false, c.frames...)
			if !strings.Contains(got.reject, c.reason) || got.reject == "" || got.acked {
				t.Errorf("reject %q after %v; want %q", got.reject, got.frames, c.reason)
			}
			b.gone("m")
		})
	}
	w.check()
}

// TestSpoiledSessions cuts a good session and turns bits in it, at every byte
// of what comes before a QEMU is started and at some of what comes after.
func TestSpoiledSessions(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	parts := session("m")
	all := bytes.Join(parts, nil)
	greeting := len(parts[0]) + len(parts[1])
	// Strides that meet headers, descriptors and pages.
	early, later := 1, 331
	if pace.Here().Slow() {
		early, later = 5, 4*331+1
	}
	for at := 1; at < len(all); at++ {
		if at <= greeting && at%early != 0 || at > greeting && at%later != 0 {
			continue
		}
		spoiled := bytes.Clone(all)
		spoiled[at] ^= 1 << (at % 8)
		if got := b.tell(true, spoiled); got.acked {
			t.Errorf("bit %d of byte %d turned: acknowledged", at%8, at)
		}
		if at <= greeting && at%7 != 0 {
			continue
		}
		if got := b.tell(true, all[:at]); got.acked {
			t.Errorf("cut at byte %d: acknowledged", at)
		}
	}
	w.check()
	b.gone("m")
	if got := b.tell(true, all); !got.acked {
		t.Errorf("the good session is not acknowledged: %v", got)
	}
	b.gone("m") // the arbiter never named it
}

func TestGarbageOnTheReplicaPort(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	for name, bytes := range map[string][]byte{
		"zeros": make([]byte, 1<<16), "HTTP": []byte("GET / HTTP/1.1\r\nHost: b\r\n\r\n" + strings.Repeat("x", 64)),
		"a long frame": append([]byte("SPFT\x01\x01\x00\x00\xff\xff\xff\xff"), make([]byte, 64)...),
	} {
		t.Run(name, func(t *testing.T) {
			if got := b.tell(false, bytes); len(got.frames) > 0 {
				t.Errorf("answered %v", got.frames)
			}
		})
	}
	w.check()
}

// TestPeersThatSayLittle: a silent one and one that trickles are left; neither
// keeps others from being served.
func TestPeersThatSayLittle(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	const many = 100
	var silent []net.Conn
	for range many {
		conn, err := net.Dial("tcp", b.config.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	slow := b.dialAs("a")
	defer slow.Close()
	w.check()
	trickled := make(chan error, 1)
	go func() { trickled <- trickle(slow) }()
	for _, conn := range silent {
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("a silent peer is kept: %v", err)
		}
	}
	if err := <-trickled; err != nil {
		t.Error(err)
	}
	w.check()
}

// trickle sends a heartbeat now and then until the host hangs up.
func trickle(conn net.Conn) error {
	beat := frame(replica.TypeHeartbeat, 0, replica.Heartbeat{}.Append(nil))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < patience; <-tick.C {
		if _, err := conn.Write(beat); err != nil {
			return nil
		}
	}
	return fmt.Errorf("a peer that only trickles is kept for %v", patience)
}

// TestPeersThatLeaveAtOnce: a standby whose primary is gone before it is
// ready leaves nothing behind.
func TestPeersThatLeaveAtOnce(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	for range 10 {
		b.tell(true, session("m")[:2]...)
		b.gone("m")
	}
	if _, err := b.start("m", ""); err != nil { // the name is free
		t.Error(err)
	}
	w.check()
}

// TestAFloodOfMessages: more events than a guest's run loop takes at once.
func TestAFloodOfMessages(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	conn := b.dialAs("a")
	defer conn.Close()
	conn.Write(bytes.Join(session("m")[:4], nil))
	b.await("the standby", func() bool { m := b.machine("m"); return m != nil && m.Role == "standby" })
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		role := frame(replica.TypeRole, 0, replica.Role{Generation: 7, Role: "standby"}.Append(nil))
		flood(conn, role)
	}()
	if err := syscall.Kill(int(b.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	b.gone("m")
	<-flooded
	w.check()
}

// flood repeats a frame until the other side hangs up.
func flood(conn net.Conn, frame []byte) {
	for many := bytes.Repeat(frame, 1000); ; {
		if _, err := conn.Write(many); err != nil {
			return
		}
	}
}

// TestAPeerThatOnlyAsks whether this daemon is there is no stranger.
func TestAPeerThatOnlyAsks(t *testing.T) {
	_, b := pairOfHosts(t)
	var log journal.Journal
	b.restart(func() { b.adjust = func(o *daemon.Options) { o.Log = log.Logger() } })
	for range 3 {
		b.dialAs("a").Close()
		b.tell(true, hello("m", replica.ProtocolNewest)) // a primary that does not like the welcome
	}
	stranger := b.dialAs("a")
	defer stranger.Close()
	if _, err := stranger.Write(prepare(specOf("m", ""))); err != nil {
		t.Fatal(err)
	}
	b.await("another to be refused", func() bool { return log.Count("peer refused") > 0 })
	if n := log.Count("peer refused"); n != 1 {
		t.Errorf("%d peers were refused:\n%v", n, log.String())
	}
}
