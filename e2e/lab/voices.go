package lab

import (
	"fmt"
	"slices"
	"time"
)

// VoiceRun is an unbroken sequence of frames that one host sent, while no
// other did.
type VoiceRun struct {
	Host        string
	First, Last time.Time
	Frames      uint64
}

// Voices returns who spoke with the given source addresses, or with any if
// none is given, from an instant on: the runs of all uplinks together, by the
// kernel's time stamps. Again tells that a host spoke, then another, then the
// first again: right after a takeover and one back, and an interleaving of
// voices else. It fails when the frames since then are more than are
// remembered. Call Settle first.
func (o *Observer) Voices(from time.Time, macs ...MAC) (runs []VoiceRun, again bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.forgotten.IsZero() && !o.forgotten.Before(from) {
		return nil, false, fmt.Errorf("voices on the wire since %v: frames up to %v are forgotten, as only %d are remembered; call Reset before, or judge in parts",
			from, o.forgotten, observedFrames)
	}
	var spoken []spoke
	for i := range o.frames {
		f := &o.frames[(o.next+i)%len(o.frames)]
		if f.Sent && !f.Time.Before(from) && (len(macs) == 0 || slices.Contains(macs, f.Source)) {
			spoken = append(spoken, spoke{f.Host, f.Time})
		}
	}
	runs, again = runsOf(spoken)
	return runs, again, nil
}

// spoke is one frame of a voice.
type spoke struct {
	host string
	at   time.Time
}

// runsOf frames in any order.
func runsOf(frames []spoke) (runs []VoiceRun, again bool) {
	slices.SortStableFunc(frames, func(a, b spoke) int { return a.at.Compare(b.at) })
	seen := map[string]bool{}
	for _, f := range frames {
		if n := len(runs); n > 0 && runs[n-1].Host == f.host {
			runs[n-1].Last = f.at
			runs[n-1].Frames++
			continue
		}
		again = again || seen[f.host]
		seen[f.host] = true
		runs = append(runs, VoiceRun{Host: f.host, First: f.at, Last: f.at, Frames: 1})
	}
	return runs, again
}
