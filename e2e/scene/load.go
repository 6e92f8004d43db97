package scene

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

// Load is what a machine carries here while nothing protects it. Whoever sends
// traffic through one takes a stated part of it, so that no speed is assumed.
type Load struct {
	// Capacity in requests per second, each of them answered.
	Capacity int
}

// full is the capacity from which on nobody sends less than he wants to.
const full = 3000

// Rate is most requests per second, or percent of the capacity where that is
// less, and at least 10.
func (l Load) Rate(most, percent int) int {
	return max(10, min(most, l.Capacity*percent/100))
}

// Bytes is most bytes per second of a TCP stream, and proportionally less where
// the machine carries little.
func (l Load) Bytes(most uint64) uint64 {
	return max(16<<10, most*uint64(min(max(l.Capacity, 1), full))/full)
}

func (l Load) String() string {
	return fmt.Sprintf("the unprotected machine carries %d requests per second", l.Capacity)
}

// loads are what was measured in this process, by QEMU and acceleration.
var loads struct {
	sync.Mutex
	known map[string]Load
}

// Load of the machine, which must run unprotected. Only the first call of a
// process for a QEMU measures it, which takes some eight seconds at most.
func (s *Scene) Load(ctx context.Context) (Load, error) {
	loads.Lock()
	defer loads.Unlock()
	key := s.A.Config.QEMU.Binary + " " + s.Accel.Accel
	if l, ok := loads.known[key]; ok {
		return l, nil
	}
	l, err := s.measureLoad(ctx)
	if err != nil {
		return l, fmt.Errorf("measure what the machine carries: %w", err)
	}
	if loads.known == nil {
		loads.known = map[string]Load{}
	}
	loads.known[key] = l
	return l, nil
}

// Rates that are tried one after the other, for stepTime each.
const (
	coldRate = 300 // under TCG the guest's code is translated first
	lowRate  = 60
	highRate = 8000
	stepTime = 700 * time.Millisecond
)

// Streams of the measurement; those of others are lower.
const loadStream = 40

// measureLoad raises the rate until answers are missing or come later and later.
func (s *Scene) measureLoad(ctx context.Context) (l Load, err error) {
	if _, err := s.step(ctx, coldRate, loadStream); err != nil {
		return l, err
	}
	base, err := s.step(ctx, lowRate, loadStream+1)
	if err != nil {
		return l, err
	}
	l.Capacity = base.rate
	stream := uint32(loadStream + 3)
	for rate := 2 * lowRate; rate <= highRate; rate = rate * 5 / 3 {
		got, err := s.step(ctx, rate, stream)
		if err != nil {
			return l, err
		}
		l.Capacity = max(l.Capacity, min(rate, got.rate))
		if got.missing || got.median > 3*base.median+20*time.Millisecond {
			break
		}
		stream++
	}
	// What still waits for the guest is through when these are.
	_, err = s.step(ctx, lowRate, loadStream+2)
	return l, err
}

// answers to a step.
type answers struct {
	rate    int // per second, while it lasted
	missing bool
	median  time.Duration // of the second half's round trips
}

func (s *Scene) step(ctx context.Context, rate int, stream uint32) (a answers, err error) {
	r := traffic.NewRecorder(1 << 16)
	server, err := traffic.StartUDPServer(s.Server.Name, s.address(lab.ServerAddress, loadPort), r)
	if err != nil {
		return a, err
	}
	defer server.Close()
	client, err := traffic.StartUDPClient(s.Client.Name, traffic.UDPClientOptions{
		Server: server.Addr(), Stream: stream, Rate: rate, Linger: 300 * time.Millisecond}, r)
	if err != nil {
		return a, err
	}
	timer := time.NewTimer(stepTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	sent, replied := client.Sent(), client.Replied()
	if stop := client.Stop(); err == nil {
		err = stop
	}
	a.rate = int(float64(replied) / stepTime.Seconds())
	a.missing = client.Replied()*100 < sent*97
	a.median = traffic.RoundTrips(secondHalf(r.Log())).P50
	return a, err
}

// secondHalf of the requests: the first may still find empty queues.
func secondHalf(l traffic.Log) traffic.Log {
	isReply := func(p traffic.Packet) bool { return p.Direction != probe.Request }
	l.Sent = slices.DeleteFunc(l.Sent, isReply)
	l.Sent = l.Sent[len(l.Sent)/2:]
	return l
}
