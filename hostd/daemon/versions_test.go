package daemon_test

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// oldHost is the host "nowhere" as it was with protocol 1: it knows no other,
// and breaks off at a message that it does not know. It acknowledges epochs.
type oldHost struct {
	epochs  atomic.Int64
	strange atomic.Int64 // messages that protocol 1 does not have
	refused atomic.Int64
}

func (o *oldHost) serve(t *testing.T, a *host) {
	t.Helper()
	l, err := net.Listen("tcp", a.config.Peers[1].Address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn = tls.Server(conn, identityOf(filepath.Dir(a.config.TLS.CA), "nowhere").Server("stillpoint-replica"))
			o.stand(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func (o *oldHost) stand(conn net.Conn) {
	r := replica.NewReader(conn)
	for {
		h, payload, err := r.Next()
		if err != nil {
			return
		}
		switch h.Type {
		case replica.TypeHello:
			hello, err := replica.DecodeHello(payload)
			if err != nil || hello.Protocol != 1 {
				o.refused.Add(1)
				conn.Write(frame(replica.TypeReject, 0, replica.Reject{Code: 2,
					Reason: "the peer speaks version 2 of the replica protocol, this host version 1"}.Append(nil)))
				return
			}
			conn.Write(frame(replica.TypeWelcome, 0, replica.Welcome{Protocol: 1, Host: "nowhere"}.Append(nil)))
		case replica.TypePrepare:
			conn.Write(frame(replica.TypePrepared, 0, replica.Prepared{QEMUVersion: "10.0.13"}.Append(nil)))
		case replica.TypeEpochEnd:
			o.epochs.Add(1)
			conn.Write(frame(replica.TypeAck, h.Epoch, nil))
		case replica.TypeHeartbeat:
			conn.Write(frame(replica.TypeHeartbeat, 0, replica.Heartbeat{}.Append(nil)))
		case replica.TypeInputLog, replica.TypeInputCut, replica.TypeInputStored:
			o.strange.Add(1)
			return
		}
	}
}

// TestAStandbyOfThePreviousProtocol is served in its own words.
func TestAStandbyOfThePreviousProtocol(t *testing.T) {
	a, _ := pairOfHosts(t)
	var old oldHost
	old.serve(t, a)
	a.mustStart("m", "")
	if err := a.protect("m", "nowhere"); err != nil {
		t.Fatal(err)
	}
	a.await("epochs", func() bool { return old.epochs.Load() > 5 })
	if old.refused.Load() != 1 || old.strange.Load() != 0 {
		t.Errorf("refused %d times, and heard %d messages of another protocol", old.refused.Load(), old.strange.Load())
	}
	a.mustUnprotect("m")
}

// TestAPrimaryOfThePreviousProtocol gets acknowledgements, and no message that
// it does not know.
func TestAPrimaryOfThePreviousProtocol(t *testing.T) {
	_, b := pairOfHosts(t)
	got := b.tell(true, session("m")...)
	if !got.acked {
		t.Errorf("got %v, %q", got.frames, got.reject)
	}
	for _, f := range got.frames {
		if f >= replica.TypeInputLog {
			t.Errorf("the host sent %v", f)
		}
	}
	b.gone("m")
}
