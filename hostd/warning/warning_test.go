package warning

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// TestWhatIsWarnedOf: each fact that an operator should know, alone.
func TestWhatIsWarnedOf(t *testing.T) {
	now := time.Unix(1000, 0)
	solo := status.View{Name: "m", Snapshot: status.Snapshot{Role: pair.Solo}}
	wanted := solo
	wanted.WantedStandby = "b"
	protected := status.View{Name: "m", Snapshot: status.Snapshot{Role: pair.Protected, Peer: "b"}}
	dark := []gate.Link{{Port: "in", Name: "up", State: "no carrier", Since: time.Now()}}
	gone := []gate.Link{{Port: "in", Name: "tap", Tap: true, State: "gone", Since: time.Now()}}
	for name, c := range map[string]struct {
		facts Facts
		want  []string // parts of the warnings, in order
	}{
		"nothing":            {Facts{View: protected}, nil},
		"no agent":           {Facts{View: status.View{Quiescence: "no agent"}}, []string{"no agent in the guest"}},
		"output passes":      {Facts{View: status.View{OutputPolicy: "pass"}}, []string{"output is not held"}},
		"unlogged input":     {Facts{View: status.View{Input: status.Input{Unlogged: 3}}}, []string{"3 packets reached the machine"}},
		"dropped output":     {Facts{View: status.View{Output: status.Output{Dropped: 4}}}, []string{"4 frames of output were dropped"}},
		"torn":               {Facts{View: status.View{Snapshot: status.Snapshot{Torn: 5}}}, []string{"5 checkpoints were taken again"}},
		"a dark uplink":      {Facts{View: protected, Links: dark}, []string{"uplink up has been without a carrier"}},
		"one there":          {Facts{View: protected, There: dark}, []string{"the standby's uplink up of port in has been without a carrier for 0s: a takeover there would lose its packets; mend it on host b"}},
		"a tap there":        {Facts{View: protected, There: gone}, []string{`"hostd unprotect m", and protect it again`}},
		"not protected":      {Facts{View: solo, There: gone}, nil},
		"lost frames":        {Facts{Lost: gate.Stats{Lost: 6}}, []string{"6 frames of output were lost"}},
		"it stops":           {Facts{Stopping: true}, []string{"is being stopped"}},
		"a claim":            {Facts{Claim: "solo", Claimed: 3 * time.Second, Said: "no quorum"}, []string{`has not decided the claim "solo" for 3s (no quorum)`}},
		"a claim just made":  {Facts{Claim: "solo", Claimed: time.Millisecond}, nil},
		"a wanted standby":   {Facts{View: wanted}, []string{"not protected: host b, or a spare"}},
		"a standby's retry":  {Facts{View: solo, RetryWith: "b", Retry: policy.Retry{}.Failed(now), Now: now}, []string{"protecting it again with host b has failed 1 times in a row; the next try is in 3s"}},
		"unsaved":            {Facts{Unsaved: "the disk is full"}, []string{"the disk is full"}},
		"a failure":          {Facts{Failure: "it broke"}, []string{"the last protection failed: it broke"}},
		"dead":               {Facts{View: solo, Ended: errors.New("QEMU was killed")}, []string{`QEMU was killed; the machine does not run here; "hostd vm stop"`}},
		"dead, taken over":   {Facts{View: status.View{Snapshot: status.Snapshot{Role: pair.Fenced}}, Ended: errors.New("QEMU was killed")}, []string{"its standby has it"}},
		"dead, and it stops": {Facts{Ended: errors.New("QEMU was killed"), Stopping: true, Failure: "it broke", Claim: "stopped", Claimed: time.Minute}, []string{"QEMU was killed", "is being stopped", `claim "stopped"`}},
	} {
		got := Of(c.facts)
		ok := len(got) == len(c.want)
		for i := range got {
			ok = ok && strings.Contains(got[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestWarningOfWhatIsLeft(t *testing.T) {
	if w := OfLeft(""); !strings.HasSuffix(w, "waits to be adopted") {
		t.Error(w)
	}
	if w := OfLeft("no monitor"); !strings.HasSuffix(w, "waits to be adopted: no monitor") {
		t.Error(w)
	}
}

// TestWhatKeepsAMachineFromAMove says where, and what to do.
func TestWhatKeepsAMachineFromAMove(t *testing.T) {
	up := []gate.Link{{Port: "in", Name: "up", State: "up"}, {Port: "in", Name: "tap", Tap: true, State: "up"}}
	dark := []gate.Link{{Port: "in", Name: "up", State: "no carrier", Since: time.Now()}, up[1]}
	if err := FitsThere("m", "b", up, up); err != nil {
		t.Error(err)
	}
	err := FitsThere("m", "b", up, dark)
	if err == nil || !strings.Contains(err.Error(), "the uplink up of port in on host b has been without a carrier for 0s: the machine's packets would be lost there; mend it on host b") {
		t.Error(err)
	}
	if err := FitsThere("m", "b", dark, dark); err != nil {
		t.Error("it is no better here: ", err)
	}
}
