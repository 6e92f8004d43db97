package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
)

const build = "../build"

// What the tests send at most, and which part of what the guest carries that may be
// in percent. A slow machine sends less.
const (
	udpRate, udpPart   = 300, 10 // requests per second, each answered
	busyRate, busyPart = 500, 15
	tcpRate            = 1 << 20 // bytes per second
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
	t         *testing.T
	ctx       context.Context
	load      scene.Load
	udp, busy int    // requests per second
	tcp       uint64 // bytes per second
}

// newStage makes one. The limit is what a machine at the reference's pace gets; it
// is only reached where something hangs.
func newStage(t *testing.T, limit time.Duration, o scene.Options) *stage {
	t.Helper()
	needLab(t)
	load, err := measuredLoad(t)
	if err != nil {
		t.Fatal(err)
	}
	limit = pace.Here().Limit(2 * limit)
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
	st := &stage{Scene: s, t: t, ctx: ctx, load: load, udp: load.Rate(udpRate, udpPart), busy: load.Rate(busyRate, busyPart), tcp: load.Bytes(tcpRate)}
	t.Logf("%v; %v: sent are %d requests (busy: %d) and %d bytes of TCP per second; limit %v", s.Pace, load, st.udp, st.busy, st.tcp, limit.Round(time.Second))
	return st
}

// measuredLoad is what the guest carries while nothing protects it, measured by
// the first test that asks.
func measuredLoad(t *testing.T) (scene.Load, error) {
	loadOnce.Lock()
	defer loadOnce.Unlock()
	if loadKnown != nil {
		return *loadKnown, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), pace.Here().Limit(2*time.Minute))
	defer cancel()
	s, err := scene.New(ctx, scene.Options{Build: build})
	if err != nil {
		return scene.Load{}, err
	}
	defer s.Close() // the stage that follows tells whether anything is left
	if err := s.Start(ctx); err != nil {
		return scene.Load{}, s.Explain(err)
	}
	if err := s.Boot(ctx, s.NAT()); err != nil {
		return scene.Load{}, s.Explain(err)
	}
	load, err := s.Load(ctx)
	if err == nil {
		loadKnown = &load
	}
	return load, err
}

var (
	loadOnce  sync.Mutex
	loadKnown *scene.Load
)

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

func (s *stage) flows(t *scene.Traffic, packets int) {
	s.t.Helper()
	s.must(t.Flowing(s.ctx, uint64(packets)))
}

// verdict stops the traffic and checks what must hold whatever happened.
func (s *stage) verdict(t *scene.Traffic) scene.Result {
	s.t.Helper()
	r, err := t.Stop(s.ctx)
	s.must(err)
	v := r.Verdict
	s.t.Logf("%+v; TCP %d bytes, intact %v", v, r.TCP.Sent, r.TCP.Intact)
	if v.Lost != 0 {
		s.reportLoss(v, r.Log.Start)
	}
	if v.Rollbacks != 0 {
		s.t.Errorf("%d rollbacks were seen outside: %v", v.Rollbacks, v.Evidence)
	}
	if v.Reordered != 0 || v.Unstamped != 0 || v.Unknown != 0 || v.Overflow != 0 {
		s.t.Errorf("reordered, unstamped or unknown packets: %v; %v", v, v.Overtaken)
	}
	if !r.TCP.Intact {
		s.t.Errorf("the TCP stream is not intact: %+v", r.TCP)
	}
	return r
}

// reportLoss tells what was lost when, and what the hosts know of frames they dropped.
func (s *stage) reportLoss(v traffic.Verdict, start time.Time) {
	for i, p := range v.Missing[:min(len(v.Missing), 20)] {
		s.t.Logf("lost: stream %d %v %d, sent at %s", p.Stream, p.Direction, p.Seq, start.Add(p.At).UTC().Format("15:04:05.000"))
		if i == 19 {
			s.t.Logf("lost: and %d more", v.Lost-20)
		}
	}
	for _, h := range s.Hosts {
		st, err := h.Machine(s.ctx, scene.Machine)
		if err != nil {
			s.t.Logf("host %s: %v", h.Name, err)
			continue
		}
		s.t.Logf("host %s: %s, input %v, output %v", h.Name, st.GetRole(), st.GetInput(), st.GetOutput())
	}
}
