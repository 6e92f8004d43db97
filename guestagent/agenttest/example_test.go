package agenttest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
)

// program is what is tested: it sends everything back.
func program(agent *guestagent.Agent) error {
	port, err := agent.OpenPort("eth0", guestagent.PortOptions{})
	if err != nil {
		return err
	}
	packets := make([]*guestagent.Packet, 32)
	for {
		n, err := port.RxWait(0, packets, -1)
		if err != nil {
			return err
		}
		sent := port.TxBurst(0, packets[:n])
		port.Free(0, packets[sent:n])
	}
}

func TestProgram(t *testing.T) {
	card := agenttest.NewMemory("eth0", 1, 1, 64)
	agent, host := agenttest.Start(t, guestagent.Config{}, card)
	ended := make(chan error, 1)
	go func() { ended <- program(agent) }()

	card.Inject(0, []byte("hello"))
	if sent := card.AwaitSent(1, time.Minute); len(sent) != 1 {
		t.Fatalf("sent %q", sent)
	}
	if _, err := host.Quiesce(time.Minute); err != nil { // it holds no packet
		t.Error(err)
	}
	if err := host.Resume(); err != nil {
		t.Error(err)
	}
	agent.Close()
	if err := <-ended; !errors.Is(err, guestagent.ErrClosed) {
		t.Error(err)
	}
}
