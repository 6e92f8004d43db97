package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

type machineCall = func(context.Context, *control.MachineRequest, ...grpc.CallOption) (*control.Machine, error)

// byName is a command that does one thing to one machine.
func (a *app) byName(use, short, long string, pick func(control.HostdClient) machineCall) *cobra.Command {
	name, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  hostd " + name + " nat",
		Args: exactly(1), ValidArgsFunction: a.machineNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.machine(c, func(ctx context.Context, h control.HostdClient) (*control.Machine, error) {
				return pick(h)(ctx, &control.MachineRequest{Name: args[0]})
			})
		},
	}
}

// machine runs a call that answers with one machine, and prints it.
func (a *app) machine(c *cobra.Command, call func(context.Context, control.HostdClient) (*control.Machine, error)) error {
	return a.call(c.Context(), func(ctx context.Context, h control.HostdClient) error {
		m, err := call(ctx, h)
		if err != nil {
			return err
		}
		return a.print(m, func(w io.Writer) { table(w, []*control.Machine{m}) })
	})
}

func (a *app) print(m proto.Message, human func(io.Writer)) error {
	if !a.json {
		human(a.Stdout)
		return nil
	}
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	_, err = fmt.Fprintf(a.Stdout, "%s\n", b)
	return err
}

func table(w io.Writer, machines []*control.Machine) {
	if len(machines) == 0 {
		fmt.Fprintln(w, "no machines")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tROLE\tPEER\tEPOCH\tPAUSE P50/P95\tQEMU")
	for _, m := range machines {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s/%s\t%s\n", m.Name, m.Role, orDash(m.Peer), max(m.Epoch, m.ReplicaEpoch),
			micros(m.PauseUs.GetP50()), micros(m.PauseUs.GetP95()), process(m))
	}
	t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// partner is the other host of the pair, or the one that is waited for.
func partner(m *control.Machine) string {
	if m.Peer == "" && m.WantedStandby != "" {
		return "- (waits for " + m.WantedStandby + ")"
	}
	return orDash(m.Peer)
}

func micros(us uint64) string { return (time.Duration(us) * time.Microsecond).String() }

func process(m *control.Machine) string {
	if m.QemuPid == 0 {
		return "ended"
	}
	return fmt.Sprintf("%s %s, process %d", m.QemuVersion, m.Accel, m.QemuPid)
}

func statusText(w io.Writer, s *control.StatusReply) {
	fmt.Fprintf(w, "host %s, hostd %s, %d machines\n", s.Host, s.Version, len(s.Machines))
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	for _, m := range s.Machines {
		fmt.Fprintln(w)
		machineText(w, m)
	}
}

func machineText(w io.Writer, m *control.Machine) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(t, "%s\t%s\n", m.Name, m.Role)
	row("peer", "%s", partner(m))
	row("generation", "%d", m.Generation)
	row("qemu", "%s", process(m))
	row("agent", "%s", m.Agent)
	if m.Role == "standby" {
		row("replica", "epoch %d", m.ReplicaEpoch)
		if n := m.Scrubs.GetRuns(); n > 0 {
			row("scrubs", "%d, %d of %d pages wrong", n, m.Scrubs.GetWrongPages(), m.Scrubs.GetPages())
		}
	} else {
		row("policy", "checkpoint %s, output %s, input log %s", m.CheckpointPolicy, m.OutputPolicy, orDash(m.InputLog))
		row("checkpoints", "%d, last epoch %d (%s), %d dirty pages", m.Checkpoints, m.Epoch, m.Quiescence, m.DirtyPages)
		row("shipped", "%s of %s dirty", humanize.IBytes(m.BytesShipped), humanize.IBytes(m.DirtyBytes))
		for _, q := range []struct {
			name string
			q    *control.Quantiles
		}{{"pause", m.PauseUs}, {"quiesce", m.QuiesceUs}, {"commit", m.CommitUs}} {
			row(q.name, "p50 %s, p95 %s, max %s", micros(q.q.GetP50()), micros(q.q.GetP95()), micros(q.q.GetMax()))
		}
	}
	row("output", "%d frames released, %d held (%s), %d resent, %d dropped", m.Output.GetReleased(), m.Output.GetHeldFrames(),
		humanize.IBytes(m.Output.GetHeldBytes()), m.Output.GetResent(), m.Output.GetDropped())
	row("input", "%d frames delivered, %d held, %d dropped, %d of them too late for the guest", m.Input.GetDelivered(), m.Input.GetHeld(),
		m.Input.GetDropped(), m.Input.GetLate())
	row("input log", "%d frames logged, %d not logged, %d replayed", m.Input.GetLogged(), m.Input.GetUnlogged(), m.Input.GetReplayed())
	for _, warning := range m.Warnings {
		row("warning", "%s", warning)
	}
	t.Flush()
}

func scrubText(w io.Writer, r *control.ScrubReply) {
	fmt.Fprintf(w, "%s: %d pages compared after epoch %d, %d wrong\n", r.Name, r.Pages, r.ReplicaEpoch, r.WrongPages)
	for _, d := range r.Damage {
		fmt.Fprintf(w, "  %s at %#x\n", d.Block, d.Offset)
	}
	if more := r.WrongPages - uint64(len(r.Damage)); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
}

func eventText(w io.Writer, e *control.Event) {
	at := time.Unix(0, e.TimeUnixNanos).Format("2006-01-02 15:04:05.000")
	fmt.Fprintf(w, "%s %s %s %s: %s\n", at, e.Host, orDash(e.Machine), e.Kind, eventMessage(e))
}

func eventMessage(e *control.Event) string {
	c := e.Checkpoint
	if c == nil {
		return e.Message
	}
	return fmt.Sprintf("epoch %d, pause %s, quiesce %s, commit %s, %d pages, %d frames", c.Epoch, micros(c.PauseUs),
		micros(c.QuiesceUs), micros(c.CommitUs), c.Pages, c.OutputFrames)
}
