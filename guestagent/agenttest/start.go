package agenttest

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/guestagent"
)

// TB is what Start needs of a *testing.T, *testing.B or *testing.F.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Start starts an agent whose host is a fake one and whose network interfaces are the
// cards, and closes both when the test ends. An agent that does not start fails the test.
func Start(t TB, c guestagent.Config, cards ...*Memory) (*guestagent.Agent, *Host) {
	t.Helper()
	host := NewHost()
	agent, err := guestagent.Start(host.Configure(c, cards...))
	if err != nil {
		t.Fatalf("start the agent: %v", err)
		return nil, nil
	}
	t.Cleanup(func() {
		agent.Close()
		host.Close()
	})
	return agent, host
}

// Configure returns the configuration of an agent whose host this is and whose network
// interfaces are the cards, for programs that start the agent themselves. Limits that c
// leaves open become a minute, which no test should need, so that a slow machine does not
// reach them. The agent is to be closed before the host.
func (h *Host) Configure(c guestagent.Config, cards ...*Memory) guestagent.Config {
	c.Open = h.Open
	c.OpenInterface = func(name string, o guestagent.PortOptions) (guestagent.Device, error) { return choose(cards, name, o) }
	for _, d := range []struct {
		value *time.Duration
		to    time.Duration
	}{{&c.MaxClosed, time.Minute}, {&c.TakeoverLimit, time.Minute}, {&c.Retry, time.Millisecond}} {
		if *d.value <= 0 {
			*d.value = d.to
		}
	}
	return c
}

// choose finds the card of a name, which must have the queues that the program asks for.
func choose(cards []*Memory, name string, o guestagent.PortOptions) (guestagent.Device, error) {
	for _, m := range cards {
		if m.info.Name != name {
			continue
		}
		if m.info.RxQueues < o.RxQueues || m.info.TxQueues < o.TxQueues {
			return nil, fmt.Errorf("card of the test has %d receive and %d transmit queues, and %d and %d are asked for",
				m.info.RxQueues, m.info.TxQueues, o.RxQueues, o.TxQueues)
		}
		return m, nil
	}
	return nil, fmt.Errorf("the test has no card of that name")
}
