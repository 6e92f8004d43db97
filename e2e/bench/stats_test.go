package main

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	v := []float64{1, 2, 3, 4, 5}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.95: 5, 1: 5} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}

// TestRatioIsOfPairedRounds: a round in which the machine is slow for both
// changes nothing.
func TestRatioIsOfPairedRounds(t *testing.T) {
	theirs := rounds{{2, 2, 2}, {20, 20, 20}, {4, 4, 4}}
	ours := rounds{{3, 3, 3}, {30, 30, 30}, {6, 6, 6}}
	if got := ratio(ours, theirs, 0.5); got != (interval{1.5, 1.5, 1.5}) {
		t.Errorf("got %v", got)
	}
	if got := paired([]float64{3, 30, 6}, []float64{2, 20, 0}); got != (interval{1.5, 1.5, 1.5}) {
		t.Errorf("got %v", got)
	}
}

func TestRatioTellsItsSpread(t *testing.T) {
	var wide []float64
	for i := range 100 {
		wide = append(wide, 1+float64(i%10))
	}
	got := ratio(rounds{wide}, rounds{{5, 5, 5}}, 0.5)
	if !(got.Low < got.Estimate && got.Estimate <= got.High) || got.Low < 0.6 || got.High > 1.8 {
		t.Errorf("got %v", got)
	}
	if none := ratio(nil, nil, 0.5); none.Estimate != 0 {
		t.Errorf("of nothing: %v", none)
	}
	if got := spread([]float64{3, 1, 2}); got != (interval{1, 2, 3}) {
		t.Errorf("got %v", got)
	}
}

func TestOverPicksOneDuration(t *testing.T) {
	p := [][]pause{{{Stopped: 2 * time.Millisecond, Reply: 3 * time.Millisecond}}}
	if over(p, stopped).at(0.5) != 2 || over(p, reply).at(0.5) != 3 {
		t.Errorf("got %v and %v", over(p, stopped), over(p, reply))
	}
}

func TestTheSecondaryHasSocketsOfItsOwn(t *testing.T) {
	s := &stock{dir: "/tmp/x"}
	for arg, want := range map[string]string{
		"memory-backend-file,id=ram0,share=on,size=256M,mem-path=/ram/nat.ram": "memory-backend-file,id=ram0,share=on,size=256M,mem-path=/ram/secondary.ram",
		"unix:/run/a/nat.qmp,server=on,wait=off":                               "unix:/tmp/x/monitor,server=on,wait=off",
		"unix:/run/a/nat.oob,server=on,wait=off":                               "unix:/tmp/x/urgent,server=on,wait=off",
		"socket,id=agent,server=on,wait=off,path=/run/a/nat.agent":             "socket,id=agent,server=on,wait=off,path=/tmp/x/agent",
		"tap,id=port1,ifname=sp-nat-out,script=no,downscript=no,vhost=off":     "tap,id=port1,ifname=stock1,script=no,downscript=no,vhost=off",
		"virtio-net-pci,netdev=port1,mac=52:54:00:5e:00:02":                    "virtio-net-pci,netdev=port1,mac=52:54:00:5e:00:02",
	} {
		if got := s.own(arg); got != want {
			t.Errorf("%s\nbecomes %s\nwant    %s", arg, got, want)
		}
	}
}
