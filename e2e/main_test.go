package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

const (
	build   = "../build"
	udpRate = 300     // packets per second, each way
	tcpRate = 1 << 20 // bytes per second
)

func TestMain(m *testing.M) {
	code := m.Run()
	if left, err := lab.Sweep(); err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "labs were left behind: %v %v\n", left, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// needLab skips where no lab can be made, and fails where it only lacks what
// "make setup build" makes.
func needLab(t *testing.T) {
	t.Helper()
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{"bin/hostd", "bin/hostd-faults", "bin/qemu-system-x86_64", "images/vmlinuz", "images/nat.cpio.gz"} {
		if _, err := os.Stat(filepath.Join(build, name)); err != nil {
			t.Fatalf("%v; run \"make setup build\" first", err)
		}
	}
}

// stage is a scene with daemons for one test.
type stage struct {
	*scene.Scene
	t   *testing.T
	ctx context.Context
}

func newStage(t *testing.T, limit time.Duration, o scene.Options) *stage {
	t.Helper()
	needLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	o.Build = build
	s, err := scene.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("the lab left something behind: %v", err)
		}
	})
	return &stage{s, t, ctx}
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(s.Explain(err))
	}
}

// start runs both daemons, A's with an environment.
func (s *stage) start(environment ...string) {
	s.t.Helper()
	s.must(s.A.Start(s.ctx, environment...))
	s.must(s.B.Start(s.ctx))
}

// protected boots the NAT on A and protects it by B.
func (s *stage) protected(m lab.Machine) {
	s.t.Helper()
	s.must(s.Boot(s.ctx, m))
	s.must(s.Protect(s.ctx, s.A, s.B))
}

func (s *stage) traffic(o scene.TrafficOptions) *scene.Traffic {
	s.t.Helper()
	t, err := s.StartTraffic(s.ctx, o)
	s.must(err)
	return t
}

func (s *stage) flows(t *scene.Traffic, packets uint64) {
	s.t.Helper()
	s.must(t.Flowing(s.ctx, packets))
}

// verdict stops the traffic and checks what must hold whatever happened.
func (s *stage) verdict(t *scene.Traffic) scene.Result {
	s.t.Helper()
	r, err := t.Stop(s.ctx)
	s.must(err)
	v := r.Verdict
	s.t.Logf("%+v; TCP %d bytes, intact %v", v, r.TCP.Sent, r.TCP.Intact)
	if v.Rollbacks != 0 {
		s.t.Errorf("%d rollbacks were seen outside: %v", v.Rollbacks, v.Evidence)
	}
	if v.Reordered != 0 || v.Unstamped != 0 || v.Unknown != 0 || v.Overflow != 0 {
		s.t.Errorf("reordered, unstamped or unknown packets: %+v", v)
	}
	if !r.TCP.Intact {
		s.t.Errorf("the TCP stream is not intact: %+v", r.TCP)
	}
	return r
}
