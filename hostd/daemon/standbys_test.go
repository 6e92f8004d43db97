package daemon_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/proto/control"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// falseStandby listens where the host's peer "nowhere" should be. It plays one
// script per connection, and hangs up.
func falseStandby(t *testing.T, a *host, play func(net.Conn, *replica.Reader)) {
	t.Helper()
	l, err := net.Listen("tcp", a.config.Peers[1].Address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn = tls.Server(conn, identityOf(filepath.Dir(a.config.TLS.CA), "nowhere").Server("stillpoint-replica"))
		defer conn.Close()
		play(conn, replica.NewReader(conn))
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// hearUntil reads frames up to one of a type; false when the host hung up.
func hearUntil(r *replica.Reader, want replica.Type) (replica.Header, bool) {
	for {
		h, _, err := r.Next()
		if err != nil || h.Type == want {
			return h, err == nil
		}
	}
}

func welcome(version uint16, limit time.Duration) []byte {
	return frame(replica.TypeWelcome, 0, replica.Welcome{Protocol: version, Host: "nowhere", Limit: uint64(limit)}.Append(nil))
}

// stand plays a good standby until the first copy begins.
func stand(conn net.Conn, r *replica.Reader) { standWith(conn, r, detectionLimit) }

// standWith plays one whose detection limit is another.
func standWith(conn net.Conn, r *replica.Reader, limit time.Duration) {
	hearUntil(r, replica.TypeHello)
	conn.Write(welcome(replica.ProtocolNewest, limit))
	hearUntil(r, replica.TypePrepare)
	conn.Write(frame(replica.TypeCards, 0, replica.Cards{}.Append(nil)))
	conn.Write(frame(replica.TypePrepared, 0, replica.Prepared{QEMUVersion: "10.0.13"}.Append(nil)))
}

func TestFalseStandbysAreLeft(t *testing.T) {
	reject := frame(replica.TypeReject, 0, replica.Reject{Code: 9, Reason: "not today"}.Append(nil))
	late := func(f []byte) func(net.Conn, *replica.Reader) {
		return func(conn net.Conn, r *replica.Reader) {
			stand(conn, r)
			hearUntil(r, replica.TypeEpochEnd)
			conn.Write(f)
			hearUntil(r, 0)
		}
	}
	cases := map[string]struct {
		play func(net.Conn, *replica.Reader)
		text string
	}{
		"hangs up": {func(net.Conn, *replica.Reader) {}, "could not be protected"},
		"garbage":  {func(c net.Conn, r *replica.Reader) { c.Write(make([]byte, 64)); hearUntil(r, 0) }, "malformed frame"},
		"refuses":  {func(c net.Conn, r *replica.Reader) { c.Write(reject); hearUntil(r, 0) }, "not today"},
		"skips welcome": {func(c net.Conn, r *replica.Reader) {
			c.Write(frame(replica.TypePrepared, 0, []byte{0, 0}))
			hearUntil(r, 0)
		}, "prepared instead of welcome"},
		"speaks a protocol that is too old": {func(c net.Conn, r *replica.Reader) {
			c.Write(welcome(replica.ProtocolOldest-1, detectionLimit))
			hearUntil(r, 0)
		}, fmt.Sprintf("host nowhere speaks version %d of the replica protocol", replica.ProtocolOldest-1)},
		"speaks a newer protocol than it was offered": {func(c net.Conn, r *replica.Reader) {
			c.Write(welcome(replica.ProtocolNewest+1, detectionLimit))
			hearUntil(r, 0)
		}, "bring both to one release"},
		"silence": {func(c net.Conn, r *replica.Reader) { hearUntil(r, 0) }, "silent"},

		"hangs up in the first copy": {stand, ""},
		"a primary's message":        {late(frame(replica.TypeHandOver, 1, nil)), "only a primary sends"},
		"refuses an epoch":           {late(reject), "not today"},
		"a broken reject":            {late(frame(replica.TypeReject, 0, []byte{1})), "left"},
		"acks what does not exist":   {late(frame(replica.TypeAck, 1<<60, nil)), "the last one sent is 1"},
		"a turned bit in the ack":    {late(append([]byte("SPFU"), frame(replica.TypeAck, 1, nil)[4:]...)), "malformed frame"},
	}
	a, _ := pairOfHosts(t)
	w := protectWitness(a)
	a.mustStart("m", "")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			falseStandby(t, a, c.play)
			mustFail(t, a.protect("m", "nowhere"), codes.FailedPrecondition, c.text)
			if m := a.machine("m"); m.Role != "unprotected" {
				t.Error(m.Role)
			}
			w.check()
		})
	}
}

func (h *host) mustUnprotect(name string) {
	h.t.Helper()
	if _, err := h.client.Unprotect(h.ctx(), &control.MachineRequest{Name: name}); err != nil {
		h.t.Error(err)
	}
}

// TestAStandbyThatFloods: more answers than a guest's run loop takes at once.
func TestAStandbyThatFloods(t *testing.T) {
	a, _ := pairOfHosts(t)
	w := protectWitness(a)
	a.mustStart("m", "")
	flooding := make(chan struct{})
	falseStandby(t, a, func(conn net.Conn, r *replica.Reader) {
		stand(conn, r)
		hearUntil(r, replica.TypeEpochEnd)
		close(flooding)
		go hearUntil(r, 0) // takes whatever comes
		flood(conn, frame(replica.TypeAck, 0, nil))
	})
	if _, err := a.client.Protect(a.ctx(), &control.ProtectRequest{Name: "m", Standby: "nowhere"}); err != nil {
		t.Fatal(err)
	}
	<-flooding
	w.check()
	a.mustUnprotect("m")
	w.check()
}

// TestAStandbyThatNeverAcknowledges is given up, although it lives: the machine
// runs on alone.
func TestAStandbyThatNeverAcknowledges(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	falseStandby(t, a, func(conn net.Conn, r *replica.Reader) {
		stand(conn, r)
		for acked := false; ; {
			h, _, err := r.Next()
			switch {
			case err != nil:
				return
			case h.Type == replica.TypeEpochEnd && !acked:
				conn.Write(frame(replica.TypeAck, h.Epoch, nil))
				acked = true
			case h.Type == replica.TypeHeartbeat:
				conn.Write(frame(replica.TypeHeartbeat, 0, replica.Heartbeat{}.Append(nil)))
			}
		}
	})
	if err := a.protect("m", "nowhere"); err != nil {
		t.Fatal(err)
	}
	a.await("the machine to run alone", func() bool { return a.machine("m").Role == "solo" })
}

// TestAStandbyAskedForAgain while it is made ready still for a primary that has given
// up: the next pair waits for that, not for a QEMU which nobody wants.
func TestAStandbyAskedForAgain(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustStart("m", "")
	binary, err := os.ReadFile(b.config.QEMU.Binary)
	if err != nil {
		t.Fatal(err)
	}
	// Only the first QEMU never answers.
	once := filepath.Join(t.TempDir(), "once")
	script := strings.Replace(string(binary), "\n", fmt.Sprintf("\nmkdir '%s' 2>/dev/null && exec sleep 1000\n", once), 1)
	if err := os.WriteFile(b.config.QEMU.Binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := a.client.Protect(a.ctx(), &control.ProtectRequest{Name: "m", Standby: "b"}); err != nil {
		t.Fatal(err)
	}
	a.await("b to start a QEMU", func() bool { _, err := os.Stat(once); return err == nil })
	a.mustUnprotect("m")
	if err := a.protect("m", "b"); err != nil {
		t.Error(err)
	}
}

// TestAMachineIsStartedWhereItsStandbyWas at once after its end: that host may hear of
// the end a moment later.
func TestAMachineIsStartedWhereItsStandbyWas(t *testing.T) {
	a, b := pairOfHosts(t)
	hosts := []*host{a, b}
	a.mustStart("m", "")
	for i := range 6 {
		here, there := hosts[i%2], hosts[(i+1)%2]
		if err := here.protect("m", there.config.Host); err != nil {
			t.Fatal(err)
		}
		if err := here.stop("m"); err != nil {
			t.Fatal(err)
		}
		there.mustStart("m", "")
	}
}
