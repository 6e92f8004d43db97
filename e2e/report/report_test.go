package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func sample() Report {
	return Report{
		Acts: []Act{
			{Name: "QEMU dies", Killed: "QEMU on host A", KillToRunningMS: 21.3, BlackoutMS: 43.1, Sent: 4000, Received: 4000, TCPIntact: true},
			{Name: "host dies", Killed: "host A", KillToRunningMS: 521.9, BlackoutMS: 560.2, Sent: 4000, Received: 3743, Lost: 257, Duplicated: 3},
		},
		Checkpoints: 220, PauseUS: Quantiles{2600, 7900}, QuiesceUS: Quantiles{800, 3000}, CommitUS: Quantiles{5200, 11000},
		Accel: "tcg", QEMUVersion: "10.0.13",
	}
}

func TestJSONHasTheseFields(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	has := func(o any, fields string) {
		t.Helper()
		m, ok := o.(map[string]any)
		if names := strings.Fields(fields); !ok || len(m) != len(names) {
			t.Fatalf("%v has not just the fields %s", o, fields)
		}
		for _, f := range strings.Fields(fields) {
			if _, ok := m[f]; !ok {
				t.Errorf("no field %s in %v", f, o)
			}
		}
	}
	has(got, "acts checkpoints pause_us quiesce_us commit_us round_trip_us accel qemu_version")
	has(got["pause_us"], "p50 p95")
	has(got["acts"].([]any)[0], "name killed kill_to_running_ms blackout_ms sent received lost duplicated reordered rollbacks tcp_intact")
	b.Reset()
	if err := (Report{}).WriteJSON(&b); err != nil || !strings.Contains(b.String(), `"acts": []`) {
		t.Fatalf("empty report: %v, %s", err, b.String())
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host dies", "521.9 ms", "257", "intact", "BROKEN", "220 checkpoints, QEMU 10.0.13 (tcg)", "p95    7.90 ms"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestQuantiles(t *testing.T) {
	d := []time.Duration{5 * time.Millisecond, 1 * time.Millisecond, 3 * time.Millisecond}
	if q := QuantilesOf(d); q != (Quantiles{3000, 3000}) || d[0] != 5*time.Millisecond {
		t.Fatalf("%+v of %v", q, d)
	}
	if q := QuantilesOf(nil); q != (Quantiles{}) {
		t.Fatalf("%+v", q)
	}
	if ms := Milliseconds(1234567 * time.Nanosecond); ms != 1.23 {
		t.Fatal(ms)
	}
}

// sampleAct is an act with a blackout of the given length and its burst.
func sampleAct(name, killed string, blackout time.Duration, burst bool) TimelineAct {
	kill := 5 * time.Second
	first := kill + blackout
	a := TimelineAct{
		Name: name, Summary: "4,000 packets sent, 0 lost, 0 duplicated, 0 rollbacks, TCP transfer intact",
		From: kill - 4*time.Second, To: kill + 4*time.Second, Kill: kill, KillText: killed,
		Running: first - 12*time.Millisecond, First: first, Dark: kill + time.Millisecond,
		FirstText: "first packet from host B, " + blackout.String() + " later",
	}
	for t := a.From; t < a.To; t += 2 * time.Millisecond {
		a.Sent = append(a.Sent, t)
		switch {
		case t < kill-70*time.Millisecond: // held until its epoch is committed
			a.Received = append(a.Received, t.Truncate(80*time.Millisecond)+80*time.Millisecond)
		case t >= first:
			a.Received = append(a.Received, t+time.Millisecond)
		case burst:
			a.Received = append(a.Received, first+time.Millisecond)
		}
	}
	for t := a.From; t < a.To; t += 37 * time.Millisecond {
		if t < kill || t > first+100*time.Millisecond {
			a.Checkpoints = append(a.Checkpoints, Checkpoint{At: t, Pause: time.Duration(2600+t.Milliseconds()*7%3000) * time.Microsecond})
		}
	}
	return a
}

func TestTimelineShowsTheTimeAroundTheKill(t *testing.T) {
	second := time.Second
	for name, c := range map[string]struct{ act, want TimelineAct }{
		"long":            {TimelineAct{To: 60 * second, Kill: 20 * second, First: 21 * second}, TimelineAct{From: 20*second - before, To: 21*second + after}},
		"short":           {TimelineAct{From: 19_900 * time.Millisecond, To: 20_100 * time.Millisecond, Kill: 20 * second}, TimelineAct{From: 19_900 * time.Millisecond, To: 20_100 * time.Millisecond}},
		"no packet after": {TimelineAct{To: 60 * second, Kill: 20 * second}, TimelineAct{From: 20*second - before, To: 20*second + after}},
		"kill elsewhere":  {TimelineAct{To: second, Kill: 20 * second}, TimelineAct{To: second}},
	} {
		if got := c.act.around(); got.From != c.want.From || got.To != c.want.To {
			t.Errorf("%s: %v to %v, want %v to %v", name, got.From, got.To, c.want.From, c.want.To)
		}
	}
}

func TestScaleIgnoresOneBurst(t *testing.T) {
	counts := make([]int, 100)
	for i := range counts {
		counts[i] = 5
	}
	counts[50] = 500
	if got := scale(counts, nil); got != 6 {
		t.Fatalf("scale %d, want 6", got)
	}
	if got := scale(); got != 4 {
		t.Fatalf("scale of nothing %d, want 4", got)
	}
}

func TestTimelineIsWellFormed(t *testing.T) {
	for name, timeline := range map[string]Timeline{
		"no act":    {Title: "<&>"},
		"empty act": {Acts: []TimelineAct{{}}},
		"two acts": {
			Title: "A NAT survives the death of its host", Subtitle: "QEMU 10.0.13 (tcg), 500 packets per second each way",
			Acts: []TimelineAct{
				sampleAct("Act 1: QEMU dies", "QEMU on host A killed", 87*time.Millisecond, true),
				sampleAct("Act 2: the host dies", "host A killed", 560*time.Millisecond, false),
			},
		},
	} {
		var b bytes.Buffer
		if err := timeline.WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		if file := os.Getenv("TIMELINE_SAMPLE"); file != "" && name == "two acts" {
			os.WriteFile(file, b.Bytes(), 0o644)
		}
		d := xml.NewDecoder(&b)
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
