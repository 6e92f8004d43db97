package link

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// memory is one end of a connection that has no kernel in it and room for
// everything, so that calls can be counted: a read takes all that is there.
type memory struct {
	in, out       *stretch
	reads, writes int
}

// stretch is one direction of it.
type stretch struct {
	sync.Mutex
	bytes.Buffer
	more sync.Cond
}

func newStretch() *stretch {
	s := &stretch{}
	s.more.L = s
	return s
}

func memories() (a, b *memory) {
	there, back := newStretch(), newStretch()
	return &memory{in: back, out: there}, &memory{in: there, out: back}
}

func (m *memory) Read(b []byte) (int, error) {
	m.reads++
	m.in.Lock()
	defer m.in.Unlock()
	for m.in.Len() == 0 {
		m.in.more.Wait()
	}
	return m.in.Buffer.Read(b)
}

func (m *memory) Write(b []byte) (int, error) {
	m.writes++
	m.out.Lock()
	defer m.out.Unlock()
	defer m.out.more.Signal()
	return m.out.Buffer.Write(b)
}

func (m *memory) Close() error                     { return nil }
func (m *memory) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (m *memory) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// secured makes both ends TLS 1.3, as hosts do.
func secured(t testing.TB, a, b net.Conn) (client, server *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "b"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, name, name, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	own := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	server = tls.Server(b, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, SessionTicketsDisabled: true})
	client = tls.Client(a, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client, server
}

// epoch is what a link carries in one: frames of a MiB of pages each.
type epoch struct {
	head, pages []byte
	batches     int
}

const batchPages = 256

func newEpoch(batches int) *epoch {
	return &epoch{head: make([]byte, 4+8*batchPages), pages: make([]byte, batchPages*replica.PageSize), batches: batches}
}

func (e *epoch) bytes() int { return e.batches * len(e.pages) }

func (e *epoch) send(l *Link) error {
	for range e.batches {
		if err := l.Send(replica.Header{Type: replica.TypePages, Epoch: 1}, e.head, e.pages); err != nil {
			return err
		}
	}
	return nil
}

func (e *epoch) receive(l *Link) error {
	for range e.batches {
		if _, p, err := l.Receive(); err != nil || len(p) != len(e.head)+len(e.pages) {
			return fmt.Errorf("%d bytes of a batch, %w", len(p), err)
		}
	}
	return nil
}

var protections = []struct {
	name string
	tls  bool
}{{"plain", false}, {"TLS", true}}

// counted is a pair of links without a kernel between them.
type counted struct {
	a, b      *Link
	near, far *memory
}

func newCounted(t testing.TB, tls bool) *counted {
	c := &counted{}
	c.near, c.far = memories()
	var near, far net.Conn = c.near, c.far
	if tls {
		near, far = secured(t, c.near, c.far)
	}
	c.a, c.b = New(near, options()), New(far, options())
	return c
}

// pass an epoch over, and count.
func (c *counted) pass(t testing.TB, e *epoch) (writes, reads int) {
	c.near.writes, c.far.reads = 0, 0
	if err := e.send(c.a); err != nil {
		t.Fatal(err)
	}
	if err := e.receive(c.b); err != nil {
		t.Fatal(err)
	}
	return c.near.writes, c.far.reads
}

// TestPagesAllocateNothing: crypto/tls, though, allocates 24 bytes each time that
// it reads from the connection, and has a pool of buffers to write, two calls for
// each batch, which may be empty.
func TestPagesAllocateNothing(t *testing.T) {
	for _, p := range protections {
		t.Run(p.name, func(t *testing.T) {
			c, e := newCounted(t, p.tls), newEpoch(4)
			c.pass(t, e) // the first records of TLS are small
			most := 0
			if _, reads := c.pass(t, e); p.tls {
				most = reads + 2*e.batches
			}
			if n := testing.AllocsPerRun(10, func() { c.pass(t, e) }); n > float64(most) {
				t.Errorf("%v allocations for %d pages, want %d at most", n, e.batches*batchPages, most)
			}
		})
	}
}

// TestCallsPerMiB: TLS writes each record of 16 KiB by itself, and reads two at
// once where they have arrived. A frame without TLS is one call (writev); here,
// where there is no kernel, one for each part.
func TestCallsPerMiB(t *testing.T) {
	const parts, records = 3, 1<<20/(16<<10) + 1
	for _, want := range []struct {
		tls           bool
		writes, reads int
	}{{false, parts, 2}, {true, records, records/2 + 1}} {
		c, e := newCounted(t, want.tls), newEpoch(8)
		c.pass(t, e) // the first records of TLS are small
		writes, reads := c.pass(t, e)
		if writes > e.batches*want.writes || reads > e.batches*want.reads {
			t.Errorf("TLS %v: %d writes and %d reads for %d MiB, want at most %d and %d for each",
				want.tls, writes, reads, e.batches, want.writes, want.reads)
		}
	}
}

func TestHeartbeatsAllocateNothing(t *testing.T) {
	c := newCounted(t, false)
	beat := func() {
		c.a.beat(1)
		if err := c.b.hear(); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	if n := testing.AllocsPerRun(100, beat); n != 0 {
		t.Errorf("%v allocations for a heartbeat", n)
	}
}
