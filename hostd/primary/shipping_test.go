package primary

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/loopback"
	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/pack"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/standby"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const (
	dirtyPages  = 1000
	guestPages  = 4096
	deviceBytes = 64 << 10
	epochBytes  = dirtyPages * replica.PageSize
)

// primaryOf ships epochs over a link.
func primaryOf(t testing.TB, l *link.Link) *Session {
	t.Helper()
	p := newSession(context.Background(), Options{
		Gate: &gate.Gate{}, State: status.NewMachine(pair.Protected), Compression: config.Link{Compress: config.CompressOn},
		Machine: spec.Machine{Protection: spec.Protection{InputLog: spec.InputSync}}})
	p.link, p.packer = l, pack.New(make([]byte, 2*epochBytes))
	if err := (seeder{p}).Blocks("pc", colo.Section{}, []colo.Block{{Name: "ram0", Size: guestPages * replica.PageSize}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// begin a standby that holds the RAM of a guest without a QEMU, and acknowledges each
// epoch as soon as it is whole. applied hears when one is applied.
func begin(t testing.TB, l *link.Link) (applied <-chan uint64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ram")
	if err := os.WriteFile(path, make([]byte, guestPages*replica.PageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan uint64, 1)
	var s *standby.Session
	s, err := standby.New(context.Background(), standby.Options{Link: l, InputLog: 1 << 20,
		Machine: spec.Machine{Protection: spec.Protection{InputLog: spec.InputSync}},
		Replica: store.Options{RAMFile: path, RAMBlock: "ram0", RAMSize: guestPages * replica.PageSize, Device: deviceBytes},
		State:   status.NewMachine(pair.Standby), Log: hclog.NewNullLogger(), Publish: func(status.Event) {},
		Post: func(_ context.Context, e pair.Event) {
			if stored, ok := e.(pair.EpochStored); ok {
				s.Acknowledge(stored.Epoch, 0)
			}
		},
		Faults: func(label string, epoch uint64) {
			if label == fault.Applied {
				done <- epoch
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.Begin()
	t.Cleanup(s.Stop)
	return done
}

// falseStream is what QEMU sends: a first copy of nothing, and two checkpoints, in
// turns, of dirtyPages that are spread over memory. From one to the other 384 bytes
// of each page change, in eight places.
func falseStream() (first []byte, checkpoints [2][]byte) {
	u32 := func(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
	u64 := func(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }
	const name = "\x04ram0"
	end := append(u64(nil, 0x10), 0x7e, 0, 0, 0, 2)
	first = append(u32(u32(nil, 0x5145564d), 3), 7)
	first = append(u32(first, 4), "pc-1\x01"...)
	first = append(u32(first, 2), "\x03ram"...)
	first = u64(u32(u32(first, 0), 4), guestPages*replica.PageSize|4)
	first = u64(append(first, name...), guestPages*replica.PageSize)
	first = append(append(first, end...), 4)
	random := rand.New(rand.NewPCG(1, 2))
	for n := range checkpoints {
		checkpoint := []byte{3, 0, 0, 0, 2}
		for i := range uint64(dirtyPages) {
			checkpoint = append(u64(checkpoint, i*37%guestPages*replica.PageSize|8), name...)
			page := bytes.Repeat([]byte{byte(i)}, replica.PageSize)
			for range 8 * n {
				at := random.IntN(replica.PageSize - 48)
				for k := range 48 {
					page[at+k] = byte(random.Uint32())
				}
			}
			checkpoint = append(checkpoint, page...)
		}
		checkpoint = append(append(checkpoint, end...), 0)
		checkpoint = u64(colo.AppendMessage(checkpoint, colo.VMStateSize), deviceBytes)
		checkpoints[n] = append(checkpoint, make([]byte, deviceBytes)...)
	}
	return first, checkpoints
}

// copying takes checkpoints out of a false QEMU's stream.
type copying struct {
	reader *colo.Reader
	epoch  capture.Epoch
	number uint64
}

func newCopying(t testing.TB, first []byte) *copying {
	t.Helper()
	c := &copying{reader: colo.NewReader(bytes.NewReader(first), colo.DefaultLimits())}
	if _, err := c.reader.Header(); err != nil {
		t.Fatal(err)
	}
	if err := c.reader.Initial(&c.epoch); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *copying) read() (err error) {
	c.number++
	c.epoch.Reset(c.number, capture.Limit{Most: dirtyPages})
	if err := c.reader.Live(&c.epoch); err != nil {
		return err
	}
	c.epoch.Device, err = c.reader.DeviceState(c.epoch.Device)
	return err
}

func (c *copying) taken() *taken {
	return &taken{epoch: &c.epoch, output: []*gate.Output{{}}, input: gate.InputCut{Upto: 1, Tails: []uint32{0, 0}}}
}

func linkOptions() link.Options {
	return link.Options{Heartbeat: time.Second, Limit: time.Minute, Log: hclog.NewNullLogger()}
}

// shipping is a primary that ships the false QEMU's checkpoints to a standby.
type shipping struct {
	*copying
	t           *testing.T
	checkpoints [2][]byte
	source      *bytes.Reader
	taken       *taken
	p           *Session
	near        *link.Link
	applied     <-chan uint64
}

func newShipping(t *testing.T) *shipping {
	t.Helper()
	if raceDetector {
		t.Skip("the compressor's pools forget under the race detector; run without it")
	}
	near, far := linked(t, false)
	first, checkpoints := falseStream()
	c := newCopying(t, first)
	return &shipping{c, t, checkpoints, bytes.NewReader(nil), c.taken(), primaryOf(t, near), near, begin(t, far)}
}

// epoch ships the next one, and sees it applied.
func (s *shipping) epoch() {
	s.source.Reset(s.checkpoints[s.number%2])
	s.reader.Reset(s.source)
	if err := s.read(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.p.send(s.taken); err != nil {
		s.t.Fatal(err)
	}
	if _, _, err := s.near.Receive(); err != nil { // the acknowledgement
		s.t.Fatal(err)
	}
	<-s.applied
}

const ofInputCut = 1 // allocation for its tails, at the standby

// TestShippingAllocatesNothing sends epochs, and takes them.
func TestShippingAllocatesNothing(t *testing.T) {
	s := newShipping(t)
	s.epoch()
	s.epoch()
	if n := testing.AllocsPerRun(10, s.epoch); n > ofInputCut {
		t.Errorf("%v allocations for an epoch of %d pages", n, dirtyPages)
	}
}

// TestLoggingAllocatesNothing ships arriving frames, and takes them; an epoch has them all.
func TestLoggingAllocatesNothing(t *testing.T) {
	s := newShipping(t)
	frame, next := make([]byte, 1500), uint64(1)
	ship := func() {
		for range 8 {
			s.p.input.Reset()
			for range 32 {
				if err := s.p.input.Frame(0, frame); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.p.sendInput(next); err != nil {
				t.Fatal(err)
			}
			next += 32
			h, payload, err := s.near.Receive()
			if err != nil || h.Type != replica.TypeInputStored {
				t.Fatal(h, err)
			}
			s.p.storedInput(payload)
		}
		s.taken.input.Upto = next - 1
		s.p.logged = next - 1
		s.epoch()
	}
	ship()
	ship()
	if n := testing.AllocsPerRun(10, ship); n > ofInputCut {
		t.Errorf("%v allocations for 256 frames, and an epoch", n)
	}
}

// TestTakingTheLogAllocatesNothing: what a gate has to log, and that it has nothing.
func TestTakingTheLogAllocatesNothing(t *testing.T) {
	near, _ := linked(t, false)
	p := primaryOf(t, near)
	if n := testing.AllocsPerRun(100, func() {
		if err := p.flushLog(1 << 62); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// linked are two ends of a link.
func linked(t testing.TB, secure bool) (near, far *link.Link) {
	t.Helper()
	a, b := connected(t, secure)
	near, far = link.New(a, linkOptions()), link.New(b, linkOptions())
	t.Cleanup(func() {
		near.Close(context.Canceled)
		far.Close(context.Canceled)
	})
	return near, far
}

// connected are two ends over loopback TCP, secured as hosts secure theirs.
func connected(t testing.TB, secure bool) (a, b net.Conn) {
	t.Helper()
	if a, b = loopback.Pair(t); secure {
		return secured(t, a, b)
	}
	return a, b
}

const protocol = "replica"

func secured(t testing.TB, a, b net.Conn) (client, server *tls.Conn) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := pki.Init(dir, pki.InitOptions{Hosts: []string{"a", "b"}}); err != nil {
		t.Fatal(err)
	}
	client = tls.Client(a, identity(t, dir, "a").Client("b", protocol))
	server = tls.Server(b, identity(t, dir, "b").Server(protocol))
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client, server
}

func identity(t testing.TB, dir, host string) *pki.Identity {
	t.Helper()
	id, err := pki.Load(pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, host+".crt"), Key: filepath.Join(dir, host+".key")}, pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// cpu is what this process, or this thread, has used so far.
func cpu(who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pairOfSockets whose ends are in this process.
func pairOfSockets(t testing.TB) (from, to *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	from, to = os.NewFile(uintptr(fds[0]), "from"), os.NewFile(uintptr(fds[1]), "to")
	t.Cleanup(func() {
		from.Close()
		to.Close()
	})
	return from, to
}

// newFloor writes an epoch's pages to a socket and reads them, once: what no
// copy from one process to another can be cheaper than.
func newFloor(t testing.TB) (pass func()) {
	const piece = 64 << 10
	from, to := pairOfSockets(t)
	source, target := make([]byte, epochBytes), make([]byte, epochBytes)
	return func() {
		for at := 0; at < epochBytes; at += piece {
			end := min(at+piece, epochBytes)
			if _, err := from.Write(source[at:end]); err != nil {
				t.Fatal(err)
			}
			for got := at; got < end; {
				n, err := to.Read(target[got:end])
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}
	}
}

func BenchmarkSocketPair(b *testing.B) {
	pass := newFloor(b)
	b.SetBytes(epochBytes)
	b.ReportAllocs()
	for b.Loop() {
		pass()
	}
}

// falseSource is the thread of a false QEMU, whose time is not the daemons'.
type falseSource struct {
	asked chan struct{}
	spent chan time.Duration
}

func newSource(w *os.File, checkpoints [2][]byte) *falseSource {
	s := &falseSource{make(chan struct{}), make(chan time.Duration, 1)}
	go func() {
		runtime.LockOSThread()
		defer close(s.spent)
		turn := 0
		for range s.asked {
			before := cpu(unix.RUSAGE_THREAD)
			if _, err := w.Write(checkpoints[turn%2]); err != nil {
				return
			}
			turn++
			s.spent <- cpu(unix.RUSAGE_THREAD) - before
		}
	}()
	return s
}

// BenchmarkCheckpoint takes epochs of 1,000 pages from a false QEMU's socket,
// ships them over loopback, and applies them: all that both daemons do with a
// page. It reports their CPU as a ratio to the floor's, in turns, with its
// spread over the turns. The false QEMU's own time is not counted.
func BenchmarkCheckpoint(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkCheckpoint(b, false) })
	b.Run("TLS", func(b *testing.B) { benchmarkCheckpoint(b, true) })
}

func benchmarkCheckpoint(b *testing.B, secure bool) {
	near, far := linked(b, secure)
	first, checkpoints := falseStream()
	w, r := pairOfSockets(b)
	c, p, applied, source := newCopying(b, first), primaryOf(b, near), begin(b, far), newSource(w, checkpoints)
	c.reader.Reset(r)
	b.Cleanup(func() {
		close(source.asked)
		<-source.spent
	})
	taken, floor := c.taken(), newFloor(b)
	pass := func() (others time.Duration) {
		source.asked <- struct{}{}
		for _, step := range []func() error{
			c.read,
			func() error { return p.send(taken) },
			func() error { _, _, err := near.Receive(); return err },
			func() error { <-applied; return nil },
		} {
			if err := step(); err != nil {
				b.Fatal(err)
			}
		}
		return <-source.spent
	}
	pass()
	pass()
	reportRatio(b, floor, pass)
}

// reportRatio of the CPU of pass, without that of others, to the floor's.
func reportRatio(b *testing.B, floor func(), pass func() time.Duration) {
	const turns = 15
	each := max(b.N/turns, 1)
	var ratios []float64
	var spent time.Duration
	for range turns {
		start := cpu(unix.RUSAGE_SELF)
		for range each {
			floor()
		}
		least := cpu(unix.RUSAGE_SELF) - start
		start = cpu(unix.RUSAGE_SELF)
		var others time.Duration
		for range each {
			others += pass()
		}
		own := cpu(unix.RUSAGE_SELF) - start - others
		ratios = append(ratios, float64(own)/float64(least))
		spent += own
	}
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op") // of both together: says nothing
	b.ReportMetric(ratios[turns/2], "ratio-p50")
	b.ReportMetric(ratios[1], "ratio-low")
	b.ReportMetric(ratios[turns-2], "ratio-high")
	b.ReportMetric(float64(spent)/float64(turns*each*dirtyPages), "cpu-ns/page")
}
