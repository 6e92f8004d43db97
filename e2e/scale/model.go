package main

import "time"

const pageBytes = 4096

// costs are what a host's checkpoints take, in seconds: so much each, and so
// much more for each dirty page.
type costs struct{ pause, commit line }

// load is what a machine and its link do.
type load struct {
	pages  int           // dirty in each epoch
	device int           // bytes of device state
	epoch  time.Duration // from checkpoint to checkpoint
	link   float64       // bytes per second; 0 for one that is never the limit
	burst  float64       // bytes that a link which has rested carries at once
	rtt    time.Duration
	wire   float64 // bytes on the wire for each byte of pages and devices
}

// bytes that an epoch puts on the wire.
func (l load) bytes() float64 { return l.wire * float64(l.pages*pageBytes+l.device) }

// expected is what protection costs then.
type expected struct {
	pause, commit, latency time.Duration
	bandwidth              float64 // bytes per second
	// fits is false if the link cannot carry one epoch in the time of another:
	// epochs grow.
	fits bool
}

// expect is the model of docs/scale.md. Processors and link work at the same
// time, so the slower of them counts.
func (c costs) expect(l load) expected {
	pages := float64(l.pages)
	var link float64
	if l.link > 0 {
		link = max(l.bytes()-l.burst, 0) / l.link
	}
	e := expected{
		pause:     seconds(c.pause.y(pages)),
		commit:    seconds(c.commit.at+max(c.commit.slope*pages, link)) + l.rtt,
		bandwidth: l.bytes() / l.epoch.Seconds(),
	}
	e.latency = l.epoch/2 + e.pause + e.commit
	e.fits = e.pause+e.commit <= l.epoch
	return e
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
