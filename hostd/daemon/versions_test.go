package daemon_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// oldHost is the host "nowhere" as it was with an older protocol: it breaks off
// at a message that it does not know, and acknowledges epochs. With protocol 1 it
// refuses a newer one, with 2 it answers that it speaks 2.
type oldHost struct {
	protocol uint16
	first    replica.Type // that it does not know
	epochs   atomic.Int64
	strange  atomic.Int64 // messages that its protocol does not have
	refused  atomic.Int64
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
		if h.Type >= o.first {
			o.strange.Add(1)
			return
		}
		switch h.Type {
		case replica.TypeHello:
			hello, err := replica.DecodeHello(payload)
			if err != nil || hello.Protocol > o.protocol && o.protocol == 1 {
				o.refused.Add(1)
				conn.Write(frame(replica.TypeReject, 0, replica.Reject{Code: 2,
					Reason: fmt.Sprintf("the peer speaks version %d of the replica protocol, this host version 1", hello.Protocol)}.Append(nil)))
				return
			}
			conn.Write(frame(replica.TypeWelcome, 0, replica.Welcome{Protocol: o.protocol, Host: "nowhere"}.Append(nil)))
		case replica.TypePrepare:
			conn.Write(frame(replica.TypePrepared, 0, replica.Prepared{QEMUVersion: "10.0.13"}.Append(nil)))
		case replica.TypeEpochEnd:
			o.epochs.Add(1)
			conn.Write(frame(replica.TypeAck, h.Epoch, nil))
		case replica.TypeHeartbeat:
			conn.Write(frame(replica.TypeHeartbeat, 0, replica.Heartbeat{}.Append(nil)))
		case replica.TypeInputLog:
			conn.Write(frame(replica.TypeInputStored, 0, replica.InputStored{Number: 1 << 62}.Append(nil)))
		}
	}
}

// TestAStandbyOfAnOlderProtocol is served in its own words.
func TestAStandbyOfAnOlderProtocol(t *testing.T) {
	for protocol, old := range map[string]*oldHost{
		"1": {protocol: 1, first: replica.TypeInputLog},
		"2": {protocol: 2, first: replica.TypePacked},
	} {
		t.Run(protocol, func(t *testing.T) {
			a, _ := pairOfHosts(t)
			old.serve(t, a)
			a.mustStart("m", "")
			if err := a.protect("m", "nowhere"); err != nil {
				t.Fatal(err)
			}
			a.await("epochs", func() bool { return old.epochs.Load() > 5 })
			want := int64(0)
			if old.protocol == 1 {
				want = 4 // of 5, of 4, of 3, and of 2
			}
			if old.refused.Load() != want || old.strange.Load() != 0 {
				t.Errorf("refused %d times, and heard %d messages of another protocol", old.refused.Load(), old.strange.Load())
			}
			a.mustUnprotect("m")
		})
	}
}

// TestAPrimaryOfAnOlderProtocol gets acknowledgements, and no message that
// it does not know.
func TestAPrimaryOfAnOlderProtocol(t *testing.T) {
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
