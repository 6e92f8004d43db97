package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the report for a terminal: one column per act, then the
// checkpoints.
func (r Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range r.rows() {
		fmt.Fprintln(t, row.label+"\t"+strings.Join(row.cells, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	_, err := fmt.Fprintf(w, "\n%d checkpoints, QEMU %s (%s)\n%s%s%sround trip of a packet and its answer\n%s%s", r.Checkpoints, r.QEMUVersion, r.Accel,
		quantileLine("pause", r.PauseUS), quantileLine("quiesce", r.QuiesceUS), quantileLine("commit", r.CommitUS),
		quantileLine("alone", r.RoundTripUS.Unprotected), quantileLine("protected", r.RoundTripUS.Protected))
	return err
}

func quantileLine(name string, q Quantiles) string {
	return fmt.Sprintf("  %-9s p50 %7.2f ms   p95 %7.2f ms\n", name, q.P50/1e3, q.P95/1e3)
}

type row struct {
	label string
	cells []string
}

func (r Report) rows() []row {
	columns := []struct {
		label string
		cell  func(Act) string
	}{
		{"", func(a Act) string { return a.Name }},
		{"killed", func(a Act) string { return a.Killed }},
		{"kill to running", func(a Act) string { return fmt.Sprintf("%.1f ms", a.KillToRunningMS) }},
		{"blackout", func(a Act) string { return fmt.Sprintf("%.1f ms", a.BlackoutMS) }},
		{"packets sent", func(a Act) string { return fmt.Sprint(a.Sent) }},
		{"received", func(a Act) string { return fmt.Sprint(a.Received) }},
		{"lost", func(a Act) string { return fmt.Sprint(a.Lost) }},
		{"duplicated", func(a Act) string { return fmt.Sprint(a.Duplicated) }},
		{"reordered", func(a Act) string { return fmt.Sprint(a.Reordered) }},
		{"rollbacks", func(a Act) string { return fmt.Sprint(a.Rollbacks) }},
		{"TCP transfer", func(a Act) string { return intact(a.TCPIntact) }},
	}
	rows := make([]row, len(columns))
	for i, c := range columns {
		rows[i].label = c.label
		for _, a := range r.Acts {
			rows[i].cells = append(rows[i].cells, c.cell(a))
		}
	}
	return rows
}

func intact(ok bool) string {
	if ok {
		return "intact"
	}
	return "BROKEN"
}
