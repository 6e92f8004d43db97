package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/dustin/go-humanize"
)

//go:embed page.md.tmpl
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// report writes the page and its plots into a directory.
func (r *results) report(dir string) error {
	plots := filepath.Join(dir, "performance")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	if len(r.Cells) > 0 {
		if err := os.WriteFile(filepath.Join(plots, "pause.svg"), r.pausePlot(), 0o644); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, "performance.md")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close() // a second time does nothing
	if err := page.Execute(f, r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	fmt.Println("report:", path)
	return f.Close()
}

// What the page asks for.

func (r *results) Checkpoints() int {
	if c := r.Cells[0]; len(c.Pair) > 0 {
		return len(c.Pair[0])
	}
	return 0
}

func (r *results) Rounds() int             { return len(r.Cells[0].Pair) }
func (r *results) Interval() time.Duration { return r.Every }
func (r *results) Light() int              { return lightRate }
func (r *results) Heavy() string           { return humanize.Comma(heavyRate) }

func (c *cell) head() string {
	return fmt.Sprintf("| %s | %s |", c.Memory, humanize.Comma(int64(c.Rate)))
}

// copied is the median of the pages that QEMU sent for a checkpoint.
func copied(of [][]pause) float64 {
	var r rounds
	for _, round := range of {
		var v []float64
		for _, p := range round {
			v = append(v, float64(p.Pages))
		}
		r = append(r, v)
	}
	return r.at(0.5)
}

// PauseRow compares the pauses.
func (c *cell) PauseRow() string {
	ours, floor, stock := over(c.Pair, stopped), over(c.Floor, stopped), over(c.Stock, stopped)
	return fmt.Sprintf("%s %.0f, %.0f | %.2f, %.2f | %.2f, %.2f | %.2f, %.2f, %.2f, %.2f | %v | %v | %v | %v | %v |", c.head(), copied(c.Pair), copied(c.Floor),
		floor.at(0.5), floor.at(0.95), stock.at(0.5), stock.at(0.95), ours.at(0.5), ours.at(0.95), ours.at(0.99), ours.at(1),
		ratio(ours, floor, 0.5), ratio(ours, floor, 0.95), ratio(ours, stock, 0.5), ratio(ours, stock, 0.95), ratio(floor, stock, 0.5))
}

// StillRow compares with the floor at the same still point.
func (c *cell) StillRow() string {
	ours, floor, still := over(c.Pair, stopped), over(c.Floor, stopped), over(c.StillFloor, stopped)
	return fmt.Sprintf("%s %.0f, %.0f | %.2f, %.2f | %v | %v | %v |", c.head(), copied(c.Pair), copied(c.StillFloor), still.at(0.5), still.at(0.95),
		ratio(ours, still, 0.5), ratio(ours, still, 0.95), ratio(still, floor, 0.5))
}

// ReplyRow compares the time from reply to RESUME.
func (c *cell) ReplyRow() string {
	ours, floor := over(c.Pair, reply), over(c.Floor, reply)
	return fmt.Sprintf("%s %.2f, %.2f | %.2f, %.2f | %v | %v |", c.head(), floor.at(0.5), floor.at(0.95), ours.at(0.5), ours.at(0.95),
		ratio(ours, floor, 0.5), ratio(ours, floor, 0.95))
}

// PartsRow tells the parts of Stillpoint's checkpoints.
func (c *cell) PartsRow() string {
	row := c.head()
	for _, part := range []func(pause) time.Duration{
		func(p pause) time.Duration { return p.Quiesce },
		func(p pause) time.Duration { return p.Stop },
		func(p pause) time.Duration { return p.Copy },
		func(p pause) time.Duration { return p.Waited },
		func(p pause) time.Duration { return p.Commit },
	} {
		r := over(c.Pair, part)
		row += fmt.Sprintf(" %.2f, %.2f |", r.at(0.5), r.at(0.95))
	}
	return row
}

// CostRow tells what the checkpoints took of the daemons and of the wire.
func (c *cell) CostRow() string {
	var each, perGiB, toCopy, wire, primary, standby []float64
	for i, k := range c.Cost {
		used := k.Primary + k.Standby
		each = append(each, milliseconds(used)/float64(max(k.Checkpoints, 1)))
		perGiB = append(perGiB, used.Seconds()/(float64(max(k.Dirty, 1))/(1<<30)))
		toCopy = append(toCopy, float64(used)/float64(max(k.Copy, 1)))
		wire = append(wire, wireRatio(c.Pair[i]))
		primary = append(primary, float64(k.PrimaryMemory)/(1<<20))
		standby = append(standby, float64(k.StandbyMemory)/(1<<20))
	}
	return fmt.Sprintf("%s %v ms | %v s | %v | %v | %.0f MiB | %.0f MiB |", c.head(), spread(each), spread(perGiB), spread(toCopy), spread(wire),
		median(primary), median(standby))
}

func wireRatio(round []pause) float64 {
	var wire, dirty uint64
	for _, p := range round {
		wire, dirty = wire+p.Wire, dirty+p.Dirty
	}
	return float64(wire) / float64(max(dirty, 1))
}

// Row compares takeover with failover.
func (t *takeovers) Row() string {
	return fmt.Sprintf("| %s | %v | %v | %v | %v | %v |", t.Memory, spread(inMilliseconds(t.Running)), spread(inMilliseconds(t.FirstPacket)),
		spread(inMilliseconds(t.Busy)), spread(inMilliseconds(t.Stock)), paired(inMilliseconds(t.Running), inMilliseconds(t.Stock)))
}

func inMilliseconds(d []time.Duration) (v []float64) {
	for _, x := range d {
		v = append(v, milliseconds(x))
	}
	return v
}

// sides are one figure of each round, without and with protection.
func (m *trafficMode) sides(figure func(load) float64) (without, with []float64) {
	for _, r := range m.Rounds {
		without, with = append(without, figure(r.Without)), append(with, figure(r.With))
	}
	return without, with
}

func roundTrip(q float64) func(load) float64 {
	return func(l load) float64 { return quantile(sorted(inMilliseconds(l.RoundTrip)), q) }
}

func answered(l load) float64   { return l.Answered }
func throughput(l load) float64 { return l.TCP / 1e6 }
func retransmits(l load) float64 {
	return float64(l.Retransmits) / (float64(max(l.Sent, 1)) / (1 << 20))
}
func rate(l load) float64     { return l.Checkpoints }
func tcpPause(l load) float64 { return milliseconds(l.Pause) }
func tcpWire(l load) float64  { return float64(l.Wire) / float64(max(l.Dirty, 1)) }

// Table compares protected and unprotected traffic.
func (m *trafficMode) Table() (rows []string) {
	difference := func(figure func(load) float64) string {
		without, with := m.sides(figure)
		var each []float64
		for i := range with {
			each = append(each, with[i]-without[i])
		}
		return "+ " + spread(each).String()
	}
	share := func(figure func(load) float64) string {
		without, with := m.sides(figure)
		return paired(with, without).String()
	}
	for _, x := range []struct {
		name   string
		figure func(load) float64
		last   func(func(load) float64) string
	}{
		{"round trip p50, ms", roundTrip(0.5), difference},
		{"round trip p95, ms", roundTrip(0.95), difference},
		{"answered per second", answered, share},
		{"TCP, MB/s", throughput, share},
		{"retransmitted segments per MiB", retransmits, difference},
	} {
		without, with := m.sides(x.figure)
		rows = append(rows, fmt.Sprintf("| %s | %s | %v | %v | %s |", m.Name, x.name, spread(without), spread(with), x.last(x.figure)))
	}
	for _, x := range []struct {
		name   string
		figure func(load) float64
	}{{"checkpoints per second of TCP", rate}, {"their pause, ms", tcpPause}, {"wire to dirty of TCP", tcpWire}} {
		_, with := m.sides(x.figure)
		rows = append(rows, fmt.Sprintf("| %s | %s | | %v | |", m.Name, x.name, spread(with)))
	}
	return rows
}

func (m *trafficMode) summary() string {
	a, b := m.sides(answered)
	c, d := m.sides(throughput)
	e, f := m.sides(roundTrip(0.5))
	return fmt.Sprintf("answered %v, TCP %v of unprotected; round trip %.1f ms instead of %.1f", paired(b, a), paired(d, c), median(f), median(e))
}

// Standing is what stands in the way of the targets that are not met.
func (r *results) Standing() string { return strings.TrimRight(standing, "\n") }

//go:embed standing.md
var standing string
