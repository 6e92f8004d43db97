package primary

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// learnPorts notes how the standby's uplinks and taps are.
func (p *Session) learnPorts(payload []byte) error {
	ports, err := replica.DecodePorts(payload)
	if err != nil {
		return err
	}
	known := p.o.Machine.Ports
	if len(ports) != len(known) {
		return fmt.Errorf("the standby tells of %d ports of a machine that has %d", len(ports), len(known))
	}
	var there []gate.Link
	for i, port := range ports {
		there = append(there, linkThere(known[i], port.Uplink, false), linkThere(known[i], port.Tap, true))
	}
	p.o.LinksThere(there)
	return nil
}

func linkThere(port spec.Port, end replica.End, tap bool) gate.Link {
	l := gate.Link{Port: port.Name, Name: port.Uplink, Tap: tap, State: end.State, Since: time.Now().Add(-time.Duration(end.Millis) * time.Millisecond)}
	if tap {
		l.Name = port.Tap
	}
	return l
}
