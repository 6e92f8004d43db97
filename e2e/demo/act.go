package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/report"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// plot is what happens in an act.
type plot struct {
	name, killed string
	kill         func() (time.Time, error)
}

// act is what became of it.
type act struct {
	figures     report.Act
	picture     report.TimelineAct
	checkpoints []*control.Checkpoint
	latency     traffic.Latency // of packets answered before the kill
}

// measureUnprotected lets the same traffic pass before anything is protected.
func (d *demo) measureUnprotected(ctx context.Context) error {
	t, err := d.scene.StartTraffic(ctx, scene.TrafficOptions{Rate: d.udp, TCPRate: d.tcp, Stream: 9})
	if err != nil {
		return err
	}
	if err := pass(ctx, 2*time.Second); err != nil {
		return err
	}
	r, err := t.Stop(ctx)
	d.unprotected = traffic.RoundTrips(r.Log)
	return err
}

// before is the part of a log whose packets were sent a while before an
// instant, so that all their answers came before it too.
func before(l traffic.Log, at time.Duration) traffic.Log {
	const margin = 500 * time.Millisecond
	var early []traffic.Packet
	for _, p := range l.Sent {
		if p.At < at-margin {
			early = append(early, p)
		}
	}
	l.Sent = early
	return l
}

// act protects the machine that runs on one host by another, lets traffic
// pass, kills, and lets traffic pass again.
func (d *demo) act(ctx context.Context, from, to *lab.Host, p plot) error {
	number := len(d.acts) + 1
	say("act %d: %s protects the machine on %s", number, hostTitle(to), hostTitle(from))
	if err := d.scene.Protect(ctx, from, to); err != nil {
		return err
	}
	mark, fromMark := to.EventMark(), from.EventMark()
	t, err := d.scene.StartTraffic(ctx, scene.TrafficOptions{Rate: d.udp, TCPRate: d.tcp, Stream: uint32(number)})
	if err != nil {
		return err
	}
	say("act %d: traffic for %v, then %s is killed", number, d.before, p.killed)
	if err := pass(ctx, d.before); err != nil {
		return err
	}
	killed, err := p.kill()
	if err != nil {
		return err
	}
	running, err := to.WaitEvent(ctx, mark, lab.Kind(scene.Machine, "running"))
	if err != nil {
		return err
	}
	say("act %d: the machine runs on %s", number, hostTitle(to))
	if err := pass(ctx, d.after); err != nil {
		return err
	}
	r, err := t.Stop(ctx)
	if err != nil {
		return err
	}
	a := judge(number, p, to, r, killed, time.Unix(0, running.TimeUnixNanos))
	a.addCheckpoints(from, fromMark, r.Log)
	d.acts = append(d.acts, a)
	return nil
}

// pass lets time pass: the traffic is the act, not a condition to wait for.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func judge(number int, p plot, to *lab.Host, r scene.Result, killed, running time.Time) act {
	at, up := since(r.Log, killed), since(r.Log, running)
	gap, _ := traffic.Blackout(r.Log, at, 30*time.Second)
	v := r.Verdict
	a := act{figures: report.Act{Name: p.name, Killed: p.killed,
		KillToRunningMS: report.Milliseconds(up - at), BlackoutMS: report.Milliseconds(gap.Length()),
		Sent: v.Sent, Received: v.Received, Lost: v.Lost, Duplicated: v.Duplicated, Reordered: v.Reordered,
		Rollbacks: v.Rollbacks, TCPIntact: r.TCP.Intact}}
	a.latency = traffic.RoundTrips(before(r.Log, at))
	a.picture = report.TimelineAct{Name: fmt.Sprintf("Act %d: %s", number, p.name),
		Summary: fmt.Sprintf("%d of %d packets lost, %d rolled back, TCP stream %s. Protected, output leaves when the standby holds its epoch; alone, at once.",
			v.Lost, v.Sent, v.Rollbacks, intact(r.TCP.Intact)),
		To: end(r.Log), Sent: traffic.Times(r.Log.Sent), Received: traffic.Times(r.Log.Received),
		Kill: at, KillText: p.killed + " killed", Running: up, First: gap.To, Dark: gap.From,
		FirstText: fmt.Sprintf("first packet from %s, %.0f ms later", hostTitle(to), report.Milliseconds(gap.To-at))}
	return a
}

func intact(yes bool) string {
	if yes {
		return "intact"
	}
	return "broken"
}

// since is a wall-clock instant on the log's clock.
func since(l traffic.Log, t time.Time) time.Duration { return t.Round(0).Sub(l.Start.Round(0)) }

func end(l traffic.Log) time.Duration {
	if len(l.Received) == 0 {
		return 0
	}
	return l.Received[len(l.Received)-1].At
}

func (a *act) addCheckpoints(h *lab.Host, mark int, l traffic.Log) {
	for _, e := range h.Events()[mark:] {
		c := e.Checkpoint
		if c == nil {
			continue
		}
		a.checkpoints = append(a.checkpoints, c)
		a.picture.Checkpoints = append(a.picture.Checkpoints, report.Checkpoint{
			At: since(l, time.Unix(0, c.StartedUnixNanos)), Pause: micros(c.PauseUs)})
	}
}

func save(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
