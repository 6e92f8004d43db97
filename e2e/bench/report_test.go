package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// small results: every ratio of pauses to the floor is 1.5, to stock COLO 0.5.
func small() *results {
	round := func(n time.Duration) []pause {
		return []pause{{Stopped: n * ms, Reply: 2 * n * ms, Pages: 100, parts: parts{Dirty: 100 << 12, Wire: 20 << 12}}}
	}
	cells := func(memory string) (all []*cell) {
		for _, rate := range []int{20, 1000} {
			all = append(all, &cell{Memory: memory, Rate: rate, Pair: [][]pause{round(3)}, Floor: [][]pause{round(2)}, Stock: [][]pause{round(6)},
				Cost: []cost{{Checkpoints: 1, Dirty: 100 << 12, Primary: 2 * ms, Standby: 2 * ms, Copy: ms}}})
		}
		return all
	}
	quick := load{RoundTrip: []time.Duration{2 * ms}, Answered: 1000, TCP: 10e6, Sent: 1 << 20}
	slow := load{RoundTrip: []time.Duration{22 * ms}, Answered: 950, TCP: 8e6, Sent: 1 << 20, Pause: 4 * ms, Wire: 1, Dirty: 4}
	rounds := []trafficRound{{quick, slow}}
	return &results{
		Host: host{CPUs: 2, CPU: "a processor", Kernel: "6.1", QEMU: "QEMU 10", Accel: "tcg"}, Every: 50 * ms,
		Cells: append(cells("256MiB"), cells("2GiB")...),
		Takeovers: []*takeovers{{"256MiB", []time.Duration{10 * ms}, []time.Duration{50 * ms}, []time.Duration{40 * ms}, []time.Duration{30 * ms}},
			{"2GiB", []time.Duration{11 * ms}, []time.Duration{70 * ms}, []time.Duration{400 * ms}, []time.Duration{30 * ms}}},
		Traffic: []*trafficMode{{"demand", rounds}, {"periodic", rounds}},
	}
}

func TestTargets(t *testing.T) {
	got := strings.Join(small().Targets(), "\n")
	for _, want := range []string{
		"| pause to floor, median | at most 1.05 | at worst 1.50 (1.50 to 1.50); met by 0 of 4 guests | **not met** |",
		"| pause to stock COLO, p95, up to 200 pages | at most 0.50 | at worst 0.50 (0.50 to 0.50); met by 2 of 2 guests | met |",
		"| takeover to running, to stock COLO's failover, 256MiB | at most 0.2 | 0.25 (0.25 to 0.25) | **not met** |",
		"| kill to first packet out, 2GiB | at most 60 ms | 70.00 (70.00 to 70.00) ms | **not met** |",
		"| takeover to running, 2GiB to 256MiB | independent of RAM size | 1.10 (1.10 to 1.10) | met |",
		"| added latency each way, demand, median | at most 1.5 pauses and a round trip: 8.0 ms | 10.0 ms | **not met** |",
		"| NAT throughput at 20 checkpoints per second, packets | at least 0.9 | 0.95 (0.95 to 0.95) | met |",
		"| the same, TCP | at least 0.9 | 0.80 (0.80 to 0.80) | **not met** |",
		"| bytes on the wire to dirty bytes, NAT under load | at most 0.35 | 0.25 (0.25 to 0.25) | met |",
		"| processor time of both daemons to copying the same pages once | at most 2 | at worst 4.00 (4.00 to 4.00); met by 0 of 4 guests | **not met** |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no row\n%s\nin\n%s", want, got)
		}
	}
}

// TestReport: the page has a row for everything, the plot is a picture, and the
// saved results give the same page again.
func TestReport(t *testing.T) {
	dir, again := t.TempDir(), t.TempDir()
	r := small()
	file := filepath.Join(dir, "results.json")
	if err := errors.Join(r.save(file), r.report(dir)); err != nil {
		t.Fatal(err)
	}
	if err := (options{out: again}).run(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 256MiB | 1,000 | 100, 100 | 2.00, 2.00 | 6.00, 6.00 | 3.00, 3.00, 3.00, 3.00 | 1.50",
		"| 2GiB | 20 | 4.00 (4.00 to 4.00) ms | 10.49 (10.49 to 10.49) s | 4.00 (4.00 to 4.00) | 0.20 (0.20 to 0.20) |",
		"| demand | round trip p50, ms | 2.00 (2.00 to 2.00) | 22.00 (22.00 to 22.00) | + 20.00",
		"accelerator tcg",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if same, err := os.ReadFile(filepath.Join(again, "performance.md")); err != nil || string(same) != string(page) {
		t.Errorf("made again it differs (%v):\n%s", err, same)
	}
	picture, err := os.Open(filepath.Join(dir, "performance", "pause.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Close()
	for d := xml.NewDecoder(picture); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
