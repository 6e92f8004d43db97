package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func etcdLab(t *testing.T, o Options) *Lab {
	t.Helper()
	o.HostdBinary, o.Arbiter = os.Args[0], ArbiterEtcd
	return newLab(t, o)
}

func TestStartWaitsForAQuorum(t *testing.T) {
	l := etcdLab(t, Options{})
	a, ctx := l.Hosts[0], testContext(t)
	if err := a.Start(within(t, 200*time.Millisecond), role+"=daemon"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a daemon alone: %v", err)
	}
	if _, err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	own := map[string][]string{"b": {"FAKE_MACHINE=nat"}, "w": {"FAKE_WITNESS=1"}}
	if err := l.StartWith(ctx, own, role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hosts[1].QEMU("nat"); err != nil {
		t.Error(err)
	}
	p, err := l.Witness.Daemon()
	if err != nil || !carries(p.PID, "FAKE_WITNESS=1") || carries(p.PID, "FAKE_MACHINE=nat") {
		t.Errorf("the witness %v: %v, or another's environment", p, err)
	}
	if err := l.Explain(errors.New("bad")); !strings.Contains(err.Error(), "fake witness w") {
		t.Errorf("no word of the witness in %v", err)
	}
}

func TestStartGivesUpWhenOneEnds(t *testing.T) {
	l := etcdLab(t, Options{})
	start := time.Now()
	err := l.StartWith(testContext(t), map[string][]string{"a": {"FAKE_END=1"}, "b": {"FAKE_END=1"}}, role+"=daemon")
	if err == nil || !strings.Contains(err.Error(), "ended at once") || time.Since(start) > readyLimit/2 {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestWitness(t *testing.T) {
	l := etcdLab(t, Options{})
	w, ctx := l.Witness, testContext(t)
	if err := l.Start(ctx, role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.Cont(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.Restart(ctx, role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	if err := w.Restart(ctx, role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(w.StateDir, "disk")
	if err := os.WriteFile(disk, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Daemon(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a witness without power: %v", err)
	}
	if err := w.PowerOn(ctx, role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(disk); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := traces(t, l.Name); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestArbiterSegment(t *testing.T) {
	l := etcdLab(t, Options{Hosts: 3})
	a := l.Hosts[0]
	at := arbiterAddress(witnessNumber) + ":7"
	echo(t, l.Witness.Space, at)
	for _, c := range []struct {
		name   string
		change func() error
		want   bool
	}{
		{"untouched", func() error { return nil }, true},
		{"a unplugged", a.Arb.Unplug, false},
		{"a plugged", a.Arb.Plug, true},
		{"the link cut", l.Link.Cut, true},
		{"all cut", l.Arbiter.Cut, false},
		{"restored", l.Arbiter.Restore, true},
		{"a without power", func() error { _, err := a.PowerOff(); return err }, false},
		{"a with power", a.powerUp, true},
		{"the witness without power", func() error { _, err := l.Witness.PowerOff(); return err }, false},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		patience := 200 * time.Millisecond
		if c.want {
			patience = time.Minute
		}
		if err := call(within(t, patience), a.Space, at); (err == nil) != c.want {
			t.Errorf("%s: call says %v", c.name, err)
		}
	}
}

func TestArbiterConfig(t *testing.T) {
	a := Member{"a", "10.98.0.1:7601", "10.98.0.1:7602"}
	b := Member{"b", "10.98.0.2:7601", "10.98.0.2:7602"}
	w := Member{"w", "10.98.0.100:7601", "10.98.0.100:7602"}
	for _, c := range []struct {
		o    Options
		node string
		want ArbiterConfig
	}{
		{Options{Hosts: 2, Arbiter: ArbiterDirectory}, "a", ArbiterConfig{Directory: "/arbiter"}},
		{Options{Hosts: 2, Arbiter: ArbiterEtcd, ArbiterMembers: MembersAll}, "b",
			ArbiterConfig{Embedded: &Embedded{Peer: b.Peer, Client: b.Client, Cluster: []Member{a, b, w}}}},
		{Options{Hosts: 1, Arbiter: ArbiterEtcd, ArbiterMembers: MembersAll}, "w",
			ArbiterConfig{Embedded: &Embedded{Peer: w.Peer, Client: w.Client, Cluster: []Member{w}}}},
		{Options{Hosts: 3, Arbiter: ArbiterEtcd, ArbiterMembers: MembersAll}, "c",
			ArbiterConfig{Embedded: &Embedded{Cluster: []Member{a, b, w}}}},
		{Options{Hosts: 2, Arbiter: ArbiterEtcd, ArbiterMembers: MembersWitness}, "a",
			ArbiterConfig{Embedded: &Embedded{Cluster: []Member{w}}}},
		{Options{Hosts: 2, Arbiter: ArbiterEtcd, ArbiterMembers: MembersWitness}, "w",
			ArbiterConfig{Embedded: &Embedded{Peer: w.Peer, Client: w.Client, Cluster: []Member{w}}}},
	} {
		l := &Lab{ArbiterDir: "/arbiter", options: c.o}
		if got := l.arbiterOf(c.node); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s of %+v: got %+v", c.node, c.o, got)
		}
	}
}

func TestSkew(t *testing.T) {
	h := startFake(t)
	for _, c := range []struct {
		skew time.Duration
		want string
	}{{90 * time.Second, "1m30s"}, {-time.Minute, "-1m0s"}} {
		h.Skew(c.skew)
		if err := h.Restart(testContext(t), role+"=daemon"); err != nil {
			t.Fatal(err)
		}
		p, err := h.Daemon()
		if err != nil || !carries(p.PID, "STILLPOINT_CLOCK_OFFSET="+c.want) {
			t.Errorf("skew %v is not in the environment: %v", c.skew, err)
		}
	}
}

func TestFaultsAreArmedAgain(t *testing.T) {
	l := newLab(t, Options{HostdBinary: os.Args[0], Hosts: 1})
	h, ctx := l.Hosts[0], testContext(t)
	f, err := h.Faults("stopped")
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"stopped", "shipping"} {
		f.Arm(label)
		if err := h.Restart(ctx, append(f.Env(), role+"=daemon")...); err != nil {
			t.Fatal(err)
		}
		hit, err := f.Await(ctx, "")
		if err != nil || hit.Label != label {
			t.Fatalf("got %+v, %v, want %s", hit, err, label)
		}
	}
}

func TestTLS(t *testing.T) {
	l := &Lab{Dir: "/lab"}
	if got := l.tlsOf("a"); got != nil {
		t.Errorf("without certificates: %+v", got)
	}
	l.tls = true
	if got, want := *l.tlsOf("a"), (TLSConfig{"/lab/pki/ca.crt", "/lab/pki/a.crt", "/lab/pki/a.key"}); got != want {
		t.Errorf("got %+v", got)
	}
}
