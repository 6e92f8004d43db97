package pack

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const benchPages = 256

// router is a guest as packet processing leaves it after an epoch: of 20 dirty
// pages 4 are as they were, 14 have changed in some places and 2 are new. Its
// pages are half zeros, the rest small numbers. One epoch undoes what the one
// before did.
type router struct {
	pages [2][][]byte
	turn  int
	fresh uint64 // where the next new page lies
}

func newRouter() *router {
	r, g := rand.New(rand.NewPCG(1, 2)), &router{fresh: 1 << 30}
	for n := range benchPages {
		a := make([]byte, pageSize)
		for at := 0; at < pageSize; at += 16 {
			binary.LittleEndian.PutUint64(a[at:], r.Uint64N(1<<16))
		}
		b := append([]byte(nil), a...)
		if n%20 >= 4 {
			for range 8 { // runs of 6 words
				at := 8 * r.IntN(pageSize/8-6)
				for i := range 6 {
					b[at+8*i] = byte(r.Uint32())
				}
			}
		}
		g.pages[0], g.pages[1] = append(g.pages[0], a), append(g.pages[1], b)
	}
	return g
}

// epoch passes the dirty pages on.
func (g *router) epoch(page func(offset uint64, page []byte)) {
	g.turn++
	for n, p := range g.pages[g.turn%2] {
		offset := uint64(n) * pageSize
		if n%20 >= 18 {
			offset, g.fresh = g.fresh, g.fresh+pageSize
		}
		page(offset, p)
	}
}

// socketPair is two ends of a connection on one host.
func socketPair(b *testing.B) (near, far net.Conn) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	end := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "socket pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	return end(fds[0]), end(fds[1])
}

// onBothSides counts the processor's time of a benchmark for each page.
func onBothSides(b *testing.B, run func()) {
	b.SetBytes(benchPages * pageSize)
	b.ReportAllocs()
	before := processorTime(b)
	rounds := 0
	for b.Loop() {
		run()
		rounds++
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(rounds*benchPages), "cpu-ns/page")
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCopied is what the pages cost as they are, through a socket pair and
// nothing else: copied together, written, and read into a memory.
func BenchmarkCopied(b *testing.B) {
	g := newRouter()
	near, far := socketPair(b)
	arrived, memory := make(chan error), make([]byte, benchPages*pageSize)
	go func() {
		for {
			_, err := io.ReadFull(far, memory)
			arrived <- err
			if err != nil {
				return
			}
		}
	}()
	out := make([]byte, 0, benchPages*pageSize)
	onBothSides(b, func() {
		out = out[:0]
		g.epoch(func(_ uint64, page []byte) { out = append(out, page...) })
		if _, err := near.Write(out); err != nil {
			b.Fatal(err)
		}
		if err := <-arrived; err != nil {
			b.Fatal(err)
		}
	})
	near.Close()
	<-arrived
}

// BenchmarkPacked is what they cost packed: packed, sent in a frame through a
// socket pair, opened and applied.
func BenchmarkPacked(b *testing.B) {
	g, p := newRouter(), New(make([]byte, 64<<20))
	near, far := socketPair(b)
	applied, memory := make(chan error), make([]byte, pageSize)
	go func() {
		var opened replica.Packed
		for r := replica.NewReader(far); ; {
			_, payload, err := r.Next()
			if err == nil {
				err = opened.Open(payload)
			}
			if err != nil {
				applied <- err
				return
			}
			changes := opened.Changes()
			for c, ok := changes.Next(); ok; c, ok = changes.Next() {
				c.Apply(memory)
			}
			applied <- nil
		}
	}()
	w, sent, epochs := replica.NewWriter(near), 0, 0
	onBothSides(b, func() {
		p.Reset()
		g.epoch(func(offset uint64, page []byte) {
			if err := p.Page(0, offset, page); err != nil {
				b.Fatal(err)
			}
		})
		parts := p.Batch().Compressed()
		for _, part := range parts {
			sent += len(part)
		}
		epochs++
		if err := w.Write(replica.Header{Type: replica.TypePacked, Epoch: 1}, parts...); err != nil {
			b.Fatal(err)
		}
		if err := <-applied; err != nil {
			b.Fatal(err)
		}
	})
	near.Close()
	<-applied
	b.ReportMetric(float64(sent)/float64(epochs*benchPages*pageSize), "ratio")
}
