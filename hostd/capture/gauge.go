package capture

import (
	"io"
	"sync/atomic"
)

// Gauge tells how a capture gets on, so that another goroutine can notice that it
// does not. Its methods may be called concurrently.
type Gauge struct {
	progress atomic.Uint64
	waiting  atomic.Int32
	stopped  atomic.Bool
}

// Progress is another number whenever QEMU has done something.
func (g *Gauge) Progress() uint64 { return g.progress.Load() }

// Waits says that the capture waits for QEMU, and for nobody else.
func (g *Gauge) Waits() bool { return g.waiting.Load() > 0 }

// Stopped says that the guest is stopped for the end of the first copy.
func (g *Gauge) Stopped() bool { return g.stopped.Load() }

func (g *Gauge) waitFor() (done func()) {
	g.waiting.Add(1)
	return func() {
		g.waiting.Add(-1)
		g.progress.Add(1)
	}
}

func (g *Gauge) reader(from io.Reader) io.Reader { return gaugedReader{from, g} }

type gaugedReader struct {
	from  io.Reader
	gauge *Gauge
}

func (r gaugedReader) Read(b []byte) (n int, err error) {
	r.gauge.waiting.Add(1)
	defer r.gauge.waiting.Add(-1)
	if n, err = r.from.Read(b); n > 0 {
		r.gauge.progress.Add(1)
	}
	return n, err
}
