package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

const (
	lightRate  = 5    // requests per second: each packet meets an idle machine
	heavyRate  = 8000 // more than the guest can answer here
	coldStream = 63

	openRate = 1 << 30 // bytes per second: as fast as TCP goes

	lightTime = 6 * time.Second
	heavyTime = 3 * time.Second
	tcpTime   = 4 * time.Second
	tcpWarm   = 3 * time.Second // the window grows by the round trip, which protection makes long
)

// measureTraffic compares a protected NAT with the same NAT unprotected.
func (o options) measureTraffic(ctx context.Context, mode *trafficMode, set func(*lab.Protection)) (err error) {
	s, err := scene.New(ctx, scene.Options{Build: o.build, QEMU: o.qemu})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := errors.Join(s.A.Start(ctx), s.B.Start(ctx)); err != nil {
		return err
	}
	m := s.NAT()
	set(&m.Protection)
	if err := s.Boot(ctx, m); err != nil {
		return err
	}
	cold := load{} // under TCG the guest's code is translated first
	if err := cold.many(ctx, s, coldStream); err != nil {
		return s.Explain(err)
	}
	for n := range o.rounds {
		r := trafficRound{}
		if r.Without, err = loads(ctx, s, uint32(6*n)); err != nil {
			return s.Explain(err)
		}
		if err := s.Protect(ctx, s.A, s.B); err != nil {
			return err
		}
		if r.With, err = loads(ctx, s, uint32(6*n+3)); err != nil {
			return s.Explain(err)
		}
		if _, err := s.A.Unprotect(ctx, scene.Machine); err != nil {
			return err
		}
		mode.Rounds = append(mode.Rounds, r)
	}
	return nil
}

// loads lets single packets pass, then more than the guest can take, then a TCP
// stream.
func loads(ctx context.Context, s *scene.Scene, stream uint32) (l load, err error) {
	if err = l.single(ctx, s, stream+1); err != nil {
		return l, err
	}
	if err = l.many(ctx, s, stream+2); err != nil {
		return l, err
	}
	return l, l.stream(ctx, s, stream+3)
}

func (l *load) single(ctx context.Context, s *scene.Scene, stream uint32) error {
	r, err := pass(ctx, s, scene.TrafficOptions{Rate: lightRate, Stream: stream}, lightTime)
	l.RoundTrip = traffic.Trips(r.Log)
	return err
}

func (l *load) many(ctx context.Context, s *scene.Scene, stream uint32) error {
	r, err := pass(ctx, s, scene.TrafficOptions{Rate: heavyRate, Stream: stream}, heavyTime)
	if err != nil {
		return err
	}
	answers := 0
	for _, p := range r.Log.Received {
		if p.Direction == probe.Reply && p.At < heavyTime {
			answers++
		}
	}
	l.Answered = float64(answers) / heavyTime.Seconds()
	return nil
}

func (l *load) stream(ctx context.Context, s *scene.Scene, stream uint32) error {
	t, err := s.StartTraffic(ctx, scene.TrafficOptions{Rate: lightRate, TCPRate: openRate, Stream: stream})
	if err != nil {
		return err
	}
	if err := rest(ctx, tcpWarm); err != nil {
		return err
	}
	mark, before, began := s.A.EventMark(), t.TCPReceived(), time.Now()
	if err := rest(ctx, tcpTime); err != nil {
		return err
	}
	l.Sent = t.TCPReceived() - before
	took := time.Since(began).Seconds()
	l.TCP = float64(l.Sent) / took
	l.checkpoints(pausesOf(s.A.Events()[mark:]), took)
	if l.Retransmits, err = t.TCPRetransmits(); err != nil {
		return err
	}
	_, err = t.Stop(ctx)
	return err
}

// checkpoints notes what was taken of them in so many seconds.
func (l *load) checkpoints(all []pause, seconds float64) {
	var stopped []time.Duration
	for _, p := range all {
		stopped = append(stopped, p.Stopped)
		l.Wire += p.Wire
		l.Dirty += p.Dirty
	}
	l.Checkpoints = float64(len(all)) / seconds
	if len(stopped) > 0 {
		slices.Sort(stopped)
		l.Pause = stopped[len(stopped)/2]
	}
}

// pass lets traffic pass for a time.
func pass(ctx context.Context, s *scene.Scene, o scene.TrafficOptions, d time.Duration) (r scene.Result, err error) {
	t, err := s.StartTraffic(ctx, o)
	if err != nil {
		return r, err
	}
	if err := rest(ctx, d); err != nil {
		return r, err
	}
	return t.Stop(ctx)
}

// rest lets time pass: the traffic is what happens, not a condition to wait for.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
