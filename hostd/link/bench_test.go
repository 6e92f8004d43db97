package link

import (
	"testing"

	"github.com/stillpoint-ft/stillpoint/e2e/loopback"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// BenchmarkEpoch sends 4 MiB of pages over loopback TCP and waits until they
// have been received.
func BenchmarkEpoch(b *testing.B) {
	for _, c := range protections {
		b.Run(c.name, func(b *testing.B) {
			near, far := loopback.Pair(b)
			if c.tls {
				near, far = secured(b, near, far)
			}
			x, y, e := New(near, options()), New(far, options()), newEpoch(4)
			received := make(chan error)
			go func() {
				for {
					err := e.receive(y)
					if err == nil {
						err = y.Send(replica.Header{Type: replica.TypeAck})
					}
					if err != nil {
						received <- err
						return
					}
				}
			}()
			b.SetBytes(int64(e.bytes()))
			b.ReportAllocs()
			for b.Loop() {
				if err := e.send(x); err != nil {
					b.Fatal(err)
				}
				if _, _, err := x.Receive(); err != nil {
					b.Fatal(err)
				}
			}
			x.Close(nil)
			y.Close(nil)
			<-received
		})
	}
}
