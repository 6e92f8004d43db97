package daemon_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// killable resets its connections, as the kernel does for a process that is killed
// with heartbeats unread.
type killable struct {
	id interface {
		Client(string, ...string) *tls.Config
	}
	mu    sync.Mutex
	conns []*net.TCPConn
}

func (k *killable) Dial(ctx context.Context, peer, address string) (net.Conn, error) {
	d := tls.Dialer{Config: k.id.Client(peer, "stillpoint-replica")}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conns = append(k.conns, c.(*tls.Conn).NetConn().(*net.TCPConn))
	return c, nil
}

func (*killable) PeerName(conn net.Conn) (string, error) {
	return pki.PeerName(conn.(*tls.Conn).ConnectionState())
}

func (k *killable) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		c.SetLinger(0)
		c.Close()
	}
}

// TestAnAckThatMeetsAReset: the takeover does not wait for the detection limit, since
// the connection's end has told.
func TestAnAckThatMeetsAReset(t *testing.T) {
	a, b := pairOfHosts(t)
	k, silent := &killable{}, &deaf{Arbiter: a.store} // a is as good as dead
	a.restart(func() {
		a.asked, a.adjust = silent, func(o *daemon.Options) { k.id, o.Network = o.Identity, k }
	})
	var armed atomic.Bool
	var reset time.Time
	took := make(chan time.Duration, 1)
	b.restartWith(func(label string, _ uint64) {
		switch {
		case label == fault.Storing && armed.CompareAndSwap(true, false):
			silent.deaf.Store(true)
			k.reset()
			reset = time.Now()
		case label == fault.TakingOver:
			took <- time.Since(reset)
		}
	}, func() {})
	a.mustProtect("m", "")
	armed.Store(true)
	select {
	case d := <-took:
		if limit := time.Duration(b.config.Detection.Limit); d > limit/2 {
			t.Errorf("the takeover begins %v after the reset; the detection limit is %v", d, limit)
		}
	case <-time.After(patience):
		t.Error("no takeover")
	}
	silent.deaf.Store(false)
}
