package daemon_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/proto/control"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// TestASpareForAStandbyThatRefuses: it answers, and has no QEMU. The status says so,
// and a spare takes its place.
func TestASpareForAStandbyThatRefuses(t *testing.T) {
	a, b := pairOfHostsWith(t, func(c *config.Config) {
		for i := range c.Peers {
			c.Peers[i].Spare = c.Peers[i].Name == "nowhere"
		}
	})
	a.mustProtect("m", "")
	if err := os.WriteFile(b.config.QEMU.Binary, []byte("#!/bin/sh\necho no KVM today >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(b.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.await("the reason", func() bool {
		return strings.Contains(strings.Join(a.machine("m").Warnings, "\n"), "no KVM today")
	})
	a.await("the spare to be asked", spareOf(t, a))
}

// TestAProtectionThatFailsAgainAndAgain is tried ever less often, and at once when an
// operator says so.
func TestAProtectionThatFailsAgainAndAgain(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustProtect("m", "")
	good, err := os.ReadFile(b.config.QEMU.Binary)
	if err == nil {
		err = os.WriteFile(b.config.QEMU.Binary, []byte("#!/bin/sh\nexit 3\n"), 0o700)
	}
	if err == nil {
		err = syscall.Kill(int(b.machine("m").QemuPid), syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	events, err := a.client.Events(a.ctx(), &control.EventsRequest{Name: "m"}) // what was comes first
	if err != nil {
		t.Fatal(err)
	}
	var tries []time.Time
	for len(tries) < 3 {
		e, err := events.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "reprotecting" {
			tries = append(tries, time.Unix(0, e.TimeUnixNanos))
		}
	}
	if tries[1].Sub(tries[0]) < 3*time.Second || tries[2].Sub(tries[1]) < 6*time.Second {
		t.Errorf("tried at %v", tries)
	}
	a.await("three failures", func() bool { return warns(a.machine("m"), "host b has failed 3 times in a row") })
	if err := os.WriteFile(b.config.QEMU.Binary, good, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	if m := a.machine("m"); m.Role != "protected" || warns(m, "in a row") || warns(m, "failed") {
		t.Errorf("the machine is %v", m)
	}
}

// spareOf listens where the host's peer "nowhere" should be, and tells whether it has
// been asked to be a standby yet. Many only look whether it is there.
func spareOf(t *testing.T, a *host) (asked func() bool) {
	l, err := tls.Listen("tcp", a.config.Peers[1].Address, identityOf(filepath.Dir(a.config.TLS.CA), "nowhere").Server("stillpoint-replica"))
	if err != nil {
		t.Fatal(err)
	}
	var hello atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, ok := hearUntil(replica.NewReader(conn), replica.TypeHello); ok {
				hello.Store(true)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return hello.Load
}
