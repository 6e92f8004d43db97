// Package warning tells an operator what is wrong with a machine now, and what to do.
package warning

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// Facts are what is known of a machine.
type Facts struct {
	status.View
	Links, There []gate.Link // of the ports here, and at the standby
	Lost         gate.Stats  // what the gate has counted
	Stopping     bool        // an operator has asked for its end
	Ended        error       // why QEMU has ended; nil while it runs
	// Claim is what the arbiter has left unanswered for so long, and what it said last.
	Claim   string
	Claimed time.Duration
	Said    string
	// RetryWith is the standby with which a first copy has failed last.
	RetryWith string
	Retry     policy.Retry
	Unsaved   string // why a later daemon would know an older state
	Failure   string // why the last protection ended
	Now       time.Time
}

// arbiterPatience is how long an answer may take before an operator hears of it.
const arbiterPatience = time.Second

// Of a machine that this daemon looks after.
func Of(f Facts) (w []string) {
	if f.Ended != nil {
		return append([]string{ofDead(f)}, ofClaims(f)...)
	}
	w = append(w, ofPackets(f)...)
	w = append(w, ofLinks(f)...)
	if f.Torn > 0 {
		w = append(w, status.TornMessage(f.Torn))
	}
	w = append(w, ofClaims(f)...)
	w = append(w, ofStandby(f)...)
	if f.Unsaved != "" {
		w = append(w, f.Unsaved)
	}
	if f.Failure != "" {
		w = append(w, "the last protection failed: "+f.Failure)
	}
	return w
}

func ofPackets(f Facts) (w []string) {
	if f.Quiescence == "no agent" {
		w = append(w, "no agent in the guest: checkpoints are taken without quiescence, so they are larger")
	}
	if f.OutputPolicy == "pass" {
		w = append(w, "output is not held: after a takeover the network may have seen packets that the machine does not remember")
	}
	if f.Input.Unlogged > 0 {
		w = append(w, fmt.Sprintf("%d packets reached the machine without being logged: limits.held-input was reached; they are lost if this host dies before the next commit", f.Input.Unlogged))
	}
	if f.Output.Dropped > 0 {
		w = append(w, fmt.Sprintf("%d frames of output were dropped: limits.held-output was reached, or the machine had no voice", f.Output.Dropped))
	}
	return w
}

func ofLinks(f Facts) (w []string) {
	for _, l := range f.Links {
		if !l.Up() {
			w = append(w, linkWarning(f.Name, f.Role, l))
		}
	}
	return append(append(w, ofThere(f)...), lossWarnings(f.Lost)...)
}

// ofClaims are of what the arbiter has to decide.
func ofClaims(f Facts) (w []string) {
	if f.Stopping {
		w = append(w, isStopped)
	}
	if f.Claimed > arbiterPatience {
		w = append(w, arbiterWarning(f.Claim, f.Claimed, f.Said))
	}
	return w
}

func ofStandby(f Facts) (w []string) {
	if f.Role != pair.Solo {
		return nil
	}
	if f.WantedStandby != "" {
		w = append(w, fmt.Sprintf("not protected: host %s, or a spare, becomes the standby as soon as it can be reached; \"hostd unprotect\" ends the waiting", f.WantedStandby))
	}
	if f.Retry.Failures() > 0 {
		w = append(w, retryWarning(f.Name, f.RetryWith, f.Retry, f.Now))
	}
	return w
}

// ofDead is of a machine whose QEMU has ended.
func ofDead(f Facts) string {
	what := "the machine does not run here; \"hostd vm stop\" ends what is left, \"hostd vm start\" starts it again"
	if f.Role == pair.Fenced {
		what = "the machine does not run here: its standby has it, or takes it over once the arbiter answers"
	}
	return fmt.Sprintf("%v; %s", f.Ended, what)
}

// OfLeft is of a machine of an earlier daemon that waits, and why if that is known.
func OfLeft(why string) string {
	w := "an earlier daemon left this machine; it is silent, and waits to be adopted"
	if why != "" {
		w += ": " + why
	}
	return w
}

const isStopped = "the machine is being stopped: it is silent, and ends as soon as the arbiter answers"

// arbiterWarning is of a claim that is not decided.
func arbiterWarning(claim string, since time.Duration, said string) string {
	if said != "" {
		said = " (" + said + ")"
	}
	return fmt.Sprintf("the arbiter has not decided the claim %q for %v%s: output waits, because the other host may have the voice; bring the arbiter back (docs/arbiter.md), and the machine goes on by itself, here or there",
		claim, since.Round(time.Second), said)
}

// retryWarning is of a machine that is not protected again at once.
func retryWarning(machine, peer string, r policy.Retry, now time.Time) string {
	return fmt.Sprintf("protecting it again with host %s has failed %d times in a row; the next try is in %v, \"hostd protect %s --standby %s\" is one at once",
		peer, r.Failures(), max(r.At().Sub(now), 0).Round(time.Second), machine, peer)
}
