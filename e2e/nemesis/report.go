package nemesis

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
)

// Report of a run.
type Report struct {
	Seed    uint64
	Started time.Time
	Elapsed time.Duration
	Rounds  []Round
	// Findings are promises that did not hold. There should be none.
	Findings []string
	// Events of the daemons before the last finding, and all daemons' logs.
	Events []string
	Logs   string
	// Sent, Lost and so on count packets of all rounds. What is lost while a
	// host is dead, or nobody may speak, is not a finding.
	Sent, Lost, Duplicated, Reordered uint64
	// Anew is how often the machine had to be started again once all was healed.
	Anew int
	// Missed is how many frames the observer of the wire did not see.
	Missed uint64
}

// Round is what was broken, and how long the pair took.
type Round struct {
	Number       int
	Primary      string
	What         string
	Broken, Back time.Duration
}

func (r *Report) add(v traffic.Verdict) {
	r.Sent += v.Sent
	r.Lost += v.Lost
	r.Duplicated += v.Duplicated
	r.Reordered += v.Reordered
}

// WriteText writes the report for people, in Markdown.
func (r *Report) WriteText(w io.Writer) {
	fmt.Fprintf(w, "# Nemesis, seed %d\n\n%d rounds in %v, begun %s. Findings: %d.\n\n", r.Seed, len(r.Rounds),
		r.Elapsed.Round(time.Second), r.Started.Format(time.RFC3339), len(r.Findings))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "- %s\n", f)
	}
	fmt.Fprintf(w, "\nPackets: %d sent, %d lost, %d duplicated, %d reordered. Frames that the observer missed: %d.\n",
		r.Sent, r.Lost, r.Duplicated, r.Reordered, r.Missed)
	fmt.Fprintf(w, "The machine was started anew %d times after a wish of an operator.\n", r.Anew)
	if len(r.Rounds) > 0 {
		r.writeRounds(w)
	}
	if len(r.Events) > 0 {
		fmt.Fprintf(w, "\n```\n%s\n```\n", strings.Join(r.Events, "\n"))
	}
	if r.Logs != "" {
		fmt.Fprintf(w, "\n```\n%s\n```\n", r.Logs)
	}
}

func (r *Report) writeRounds(w io.Writer) {
	var back []time.Duration
	for _, round := range r.Rounds {
		back = append(back, round.Back)
	}
	slices.Sort(back)
	at := func(q float64) time.Duration { return back[int(q*float64(len(back)-1))].Round(time.Millisecond) }
	fmt.Fprintf(w, "\nProtected again after healing: median %v, p95 %v, longest %v.\n\n", at(0.5), at(0.95), at(1))
	fmt.Fprintf(w, "| round | machine on | what | broken for | protected again after |\n|---|---|---|---|---|\n")
	for _, round := range r.Rounds {
		fmt.Fprintf(w, "| %d | %s | %s | %v | %v |\n", round.Number, round.Primary, round.What,
			round.Broken.Round(time.Millisecond), round.Back.Round(time.Millisecond))
	}
}
