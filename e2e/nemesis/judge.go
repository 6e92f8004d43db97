package nemesis

import (
	"context"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
)

// voice are the events by which a host comes to speak for the machine.
var voice = map[string]bool{"started": true, "adopted": true, "running": true, "solo": true, "unprotected": true, "protected": true}

// settling is how much later than a frame the event may be dated that goes
// before it: the event is published after the first frames leave.
const settling = 200 * time.Millisecond

// judgeVoices checks that hosts spoke one after the other, each only after it
// was given the voice.
func (n *nemesis) judgeVoices(ctx context.Context, r Round) error {
	if err := n.Wire.Settle(ctx); err != nil {
		return err
	}
	if missed, err := n.Wire.Missed(); err != nil {
		return err
	} else if missed > n.report.Missed {
		n.report.Missed = missed
	}
	runs, _, err := n.Wire.Voices(time.Time{}, n.macs...)
	if err != nil {
		return err
	}
	last := time.Time{}
	for _, run := range runs {
		if run.Host != n.speaking && !given(n.Host(run.Host).Events(), run, last) {
			n.find(r, "host %s sent %d frames of the guest at %s, and was not given the voice since host %s spoke; runs: %v",
				run.Host, run.Frames, run.First.Format("15:04:05.000"), n.speaking, text(runs))
			return nil
		}
		n.speaking, last = run.Host, run.First
	}
	return nil
}

// given reports that the host came to the voice between the beginning of
// another's run and its own.
func given(events []lab.Event, run lab.VoiceRun, since time.Time) bool {
	for _, e := range events {
		at := time.Unix(0, e.TimeUnixNanos)
		if voice[e.Kind] && at.After(since) && at.Before(run.First.Add(settling)) {
			return true
		}
	}
	return false
}

func text(runs []lab.VoiceRun) (all []string) {
	for _, r := range runs {
		all = append(all, fmt.Sprintf("%s %s-%s (%d)", r.Host, r.First.Format("15:04:05.000"), r.Last.Format("15:04:05.000"), r.Frames))
	}
	return all
}

// judgeTraffic ends the traffic and asks the oracle.
func (n *nemesis) judgeTraffic(ctx context.Context) error { return n.judgeUntil(ctx, true) }

// judgeLife ends the traffic of a machine that was stopped or lost: nothing is
// expected of what is under way, and its stream cannot end well.
func (n *nemesis) judgeLife(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return n.judgeUntil(ctx, false)
}

func (n *nemesis) judgeUntil(ctx context.Context, lives bool) error {
	t := n.traffic
	n.traffic = nil
	if t == nil {
		return nil
	}
	result, err := t.Stop(ctx)
	if err != nil {
		return err
	}
	v := result.Verdict
	n.report.add(v)
	last := Round{Number: len(n.report.Rounds), What: "traffic since the last verdict"}
	if v.Rollbacks != 0 {
		n.find(last, "%d rollbacks were seen outside: %v", v.Rollbacks, v.Evidence)
	}
	if v.Unstamped != 0 || v.Unknown != 0 || v.Overflow != 0 {
		n.find(last, "unstamped or unknown packets: %v", v)
	}
	if lives && !result.TCP.Intact {
		n.find(last, "the TCP stream is not intact: %+v", result.TCP)
	}
	return nil
}
