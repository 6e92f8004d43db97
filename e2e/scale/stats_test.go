package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestFit(t *testing.T) {
	for _, c := range []struct {
		xs, ys []float64
		want   line
	}{
		{nil, nil, line{}},
		{[]float64{3}, []float64{7}, line{at: 7}},
		{[]float64{2, 2}, []float64{1, 3}, line{at: 2}},
		{[]float64{0, 1, 2}, []float64{1, 3, 5}, line{1, 2}},
		{[]float64{0, 1, 2, 3}, []float64{0, 2, 2, 4}, line{0.2, 1.2}},
	} {
		if got := fit(c.xs, c.ys); !near(got.at, c.want.at) || !near(got.slope, c.want.slope) {
			t.Errorf("%v, %v: %v, want %v", c.xs, c.ys, got, c.want)
		}
	}
}

func TestJain(t *testing.T) {
	for _, c := range []struct {
		shares []float64
		want   float64
	}{{[]float64{5, 5, 5}, 1}, {[]float64{9, 0, 0}, 1. / 3}, {[]float64{0, 0}, 1}, {[]float64{1, 3}, 0.8}} {
		if got := jain(c.shares); !near(got, c.want) {
			t.Errorf("%v: %v, want %v", c.shares, got, c.want)
		}
	}
}

func TestOverlap(t *testing.T) {
	spans := func(bounds ...int) (all []span) {
		at := func(n int) time.Time { return time.Unix(int64(n), 0) }
		for i := 0; i < len(bounds); i += 2 {
			all = append(all, span{at(bounds[i]), at(bounds[i+1])})
		}
		return all
	}
	for name, c := range map[string]struct {
		spans []span
		want  overlap
	}{
		"none":                {nil, overlap{}},
		"one after the other": {spans(0, 1, 1, 2, 2, 3), overlap{1, 1, 1}},
		"with pauses between": {spans(0, 1, 3, 4), overlap{1, 0.5, 1}},
		"all at once":         {spans(0, 1, 0, 1, 0, 1), overlap{3, 3, 2}},
		"one into another":    {spans(0, 2, 1, 3), overlap{2, 4. / 3, 1.5}},
	} {
		got := overlapOf(c.spans)
		if got.most != c.want.most || !near(got.mean, c.want.mean) || !near(got.met, c.want.met) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestModel(t *testing.T) {
	c := costs{pause: line{1e-3, 1e-6}, commit: line{2e-3, 5e-6}}
	l := load{pages: 1000, device: 4096, epoch: 100 * time.Millisecond, wire: 1}
	e := c.expect(l)
	want := expected{pause: 2 * time.Millisecond, commit: 7 * time.Millisecond, latency: 59 * time.Millisecond, bandwidth: 10 * 1001 * pageBytes, fits: true}
	if e.pause.Round(time.Microsecond) != want.pause || e.commit.Round(time.Microsecond) != want.commit || e.latency.Round(time.Microsecond) != want.latency ||
		!near(e.bandwidth, want.bandwidth) || e.fits != want.fits {
		t.Errorf("%+v, want %+v", e, want)
	}
	l.rtt, l.link = 10*time.Millisecond, 1001*pageBytes*10 // a tenth of a second for an epoch
	if e = c.expect(l); e.commit.Round(time.Microsecond) != 112*time.Millisecond || e.fits {
		t.Errorf("on a link that is too narrow: %+v", e)
	}
	l.burst = 1001 * pageBytes
	if e = c.expect(l); e.commit.Round(time.Microsecond) != 17*time.Millisecond || !e.fits {
		t.Errorf("on a link that takes it at once: %+v", e)
	}
}

func TestLearn(t *testing.T) {
	all := trials()
	for i, x := range all {
		x.measured.pause, x.measured.commit, x.wire = time.Duration(x.pages)*time.Microsecond, time.Duration(x.pages)*time.Millisecond, float64(i)
	}
	c := learn(all)
	if !near(c.pause.y(100), 100e-6) || !near(c.commit.y(100), 0.1) || all[0].wire != 3 {
		t.Errorf("%+v, wire %v", c, all[0].wire)
	}
}

func TestTable(t *testing.T) {
	x := table{title: "T", head: []string{"a", "b"}}
	x.add(1, 2.346)
	x.add("c", 123.4)
	var b strings.Builder
	if err := x.write(&b); err != nil {
		t.Fatal(err)
	}
	if want := "## T\n\n| a | b |\n|---|---|\n| 1 | 2.35 |\n| c | 123 |\n\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}

func TestMachinesFlag(t *testing.T) {
	var o options
	if err := o.setMachines("1,5,20"); err != nil || len(o.machines) != 3 {
		t.Error(o.machines, err)
	}
	for _, bad := range []string{"", "0", "2,1", "1,x"} {
		if o.setMachines(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
