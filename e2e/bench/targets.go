package main

import "fmt"

// Targets are the rows that say which targets were met.
func (r *results) Targets() (rows []string) {
	rows = append(rows, r.pauseTargets()...)
	rows = append(rows, r.takeoverTargets()...)
	rows = append(rows, r.trafficTargets()...)
	return append(rows, r.costTargets()...)
}

// row of a target that a figure must not exceed, or fall below.
func row(what, target, measured string, met bool) string {
	verdict := "met"
	if !met {
		verdict = "**not met**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |", what, target, measured, verdict)
}

// worst of a ratio over cells.
func worst(cells []*cell, of func(*cell) interval) (w interval) {
	for _, c := range cells {
		if i := of(c); i.Estimate > w.Estimate {
			w = i
		}
	}
	return w
}

func met(cells []*cell, limit float64, of func(*cell) interval) (n int) {
	for _, c := range cells {
		if of(c).Estimate <= limit {
			n++
		}
	}
	return n
}

func (r *results) pauseTargets() (rows []string) {
	for _, t := range []struct {
		what        string
		stock       bool
		q, limit    float64
		least, most int // dirty pages
	}{
		{"pause to floor, median", false, 0.5, 1.05, 0, 1 << 30},
		{"pause to floor, p95", false, 0.95, 1.10, 0, 1 << 30},
		{"pause to stock COLO, median, up to 200 pages", true, 0.5, 0.5, 0, 200},
		{"pause to stock COLO, p95, up to 200 pages", true, 0.95, 0.5, 0, 200},
		{"pause to stock COLO, median, 1,000 pages", true, 0.5, 0.65, 1000, 1000},
		{"pause to stock COLO, p95, 1,000 pages", true, 0.95, 0.65, 1000, 1000},
		{"pause to stock COLO, median, above", true, 0.5, 0.75, 1001, 1 << 30},
		{"pause to stock COLO, p95, above", true, 0.95, 0.75, 1001, 1 << 30},
	} {
		var cells []*cell
		for _, c := range r.Cells {
			if c.Rate >= t.least && c.Rate <= t.most {
				cells = append(cells, c)
			}
		}
		if len(cells) == 0 {
			continue
		}
		of := func(c *cell) interval {
			theirs := c.Floor
			if t.stock {
				theirs = c.Stock
			}
			return ratio(over(c.Pair, stopped), over(theirs, stopped), t.q)
		}
		n := met(cells, t.limit, of)
		rows = append(rows, row(t.what, fmt.Sprintf("at most %.2f", t.limit),
			fmt.Sprintf("at worst %v; met by %d of %d guests", worst(cells, of), n, len(cells)), n == len(cells)))
	}
	return rows
}

func (r *results) takeoverTargets() (rows []string) {
	for _, t := range r.Takeovers {
		i := paired(inMilliseconds(t.Running), inMilliseconds(t.Stock))
		rows = append(rows, row("takeover to running, to stock COLO's failover, "+t.Memory, "at most 0.2", i.String(), i.Estimate <= 0.2))
		first := spread(inMilliseconds(t.FirstPacket))
		rows = append(rows, row("kill to first packet out, "+t.Memory, "at most 60 ms", first.String()+" ms", first.Estimate <= 60))
	}
	if n := len(r.Takeovers); n > 1 {
		i := paired(inMilliseconds(r.Takeovers[n-1].Running), inMilliseconds(r.Takeovers[0].Running))
		rows = append(rows, row(fmt.Sprintf("takeover to running, %s to %s", r.Takeovers[n-1].Memory, r.Takeovers[0].Memory),
			"independent of RAM size", i.String(), i.Low <= 1.1))
	}
	return rows
}

func (r *results) trafficTargets() (rows []string) {
	for i, m := range r.Traffic {
		if i == 0 { // demand
			without, with := m.sides(roundTrip(0.5))
			_, pauses := m.sides(tcpPause)
			added, most := (median(with)-median(without))/2, 1.5*median(pauses)+median(without)
			rows = append(rows, row("added latency each way, demand, median", fmt.Sprintf("at most 1.5 pauses and a round trip: %.1f ms", most),
				fmt.Sprintf("%.1f ms", added), added <= most))
			continue
		}
		without, with := m.sides(answered)
		share := paired(with, without)
		rows = append(rows, row("NAT throughput at 20 checkpoints per second, packets", "at least 0.9", share.String(), share.Estimate >= 0.9))
		without, with = m.sides(throughput)
		share = paired(with, without)
		rows = append(rows, row("the same, TCP", "at least 0.9", share.String(), share.Estimate >= 0.9))
		_, wire := m.sides(tcpWire)
		rows = append(rows, row("bytes on the wire to dirty bytes, NAT under load", "at most 0.35", spread(wire).String(), median(wire) <= 0.35))
	}
	return rows
}

func (r *results) costTargets() (rows []string) {
	of := func(c *cell) interval {
		var each []float64
		for _, k := range c.Cost {
			each = append(each, float64(k.Primary+k.Standby)/float64(max(k.Copy, 1)))
		}
		return spread(each)
	}
	if len(r.Cells) == 0 {
		return nil
	}
	n := met(r.Cells, 2, of)
	return []string{row("processor time of both daemons to copying the same pages once", "at most 2",
		fmt.Sprintf("at worst %v; met by %d of %d guests", worst(r.Cells, of), n, len(r.Cells)), n == len(r.Cells)),
		"| allocations per page and per packet in steady state | 0 | 0 (tests that fail otherwise) | met |"}
}
