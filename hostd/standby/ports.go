package standby

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// TellPorts tells the primary of the ports here, at once and whenever one has changed,
// until the standby's part or the link ends.
func (s *Session) TellPorts() {
	for {
		if err := s.link.Send(replica.Header{Type: replica.TypePorts}, portsOf(s.o.Gate.Links()).Append(nil)); err != nil {
			return // the end of the link has its own event
		}
		select {
		case <-s.links:
		case <-s.ctx.Done():
			return
		case <-s.link.Done():
			return
		}
	}
}

// portsOf a gate, whose links are each port's uplink and its tap.
func portsOf(links []gate.Link) (ports replica.Ports) {
	for i := 0; i+1 < len(links); i += 2 {
		ports = append(ports, replica.Port{Uplink: endOf(links[i]), Tap: endOf(links[i+1])})
	}
	return ports
}

func endOf(l gate.Link) replica.End {
	return replica.End{State: l.State, Millis: uint64(time.Since(l.Since).Milliseconds())}
}

// LinkChanged has the primary told. It may be called concurrently.
func (s *Session) LinkChanged() {
	select {
	case s.links <- struct{}{}:
	default:
	}
}
