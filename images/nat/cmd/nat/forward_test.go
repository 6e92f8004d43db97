package main

import (
	"context"
	"encoding/hex"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
	"github.com/stillpoint-ft/stillpoint/images/nat"
)

// arpRequest asks for the NAT's address inside, 10.1.0.1, from 10.1.0.9.
const arpRequest = "ffffffffffff" + "020000000009" + "0806" + "0001080006040001" +
	"020000000009" + "0a010009" + "000000000000" + "0a010001"

// TestStillPoints: the program answers, comes to rest as often as it is asked to, and
// announces itself after a takeover, once packets flow.
func TestStillPoints(t *testing.T) {
	inside := agenttest.NewMemory("eth0", 1, queues, 64)
	outside := agenttest.NewMemory("eth1", 1, queues, 64)
	agent, host := agenttest.Start(t, guestagent.Config{}, inside, outside)
	f, err := open(agent, options{cards: [2]string{"eth0", "eth1"}, addresses: [2]string{"10.1.0.1/24", "10.2.0.1/24"}})
	if err != nil {
		t.Fatal(err)
	}
	f.log = hclog.NewNullLogger()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.run(ctx, 0) }()
	request, _ := hex.DecodeString(arpRequest)
	for range 20 {
		inside.Inject(0, request)
		awaitReply(t, inside)
		if _, err := host.Quiesce(time.Minute); err != nil {
			t.Fatal(err)
		}
		inside.Inject(0, request)
		if inside.Waiting(0) != 1 {
			t.Fatal("received in the pause")
		}
		if err := host.Resume(); err != nil {
			t.Fatal(err)
		}
		awaitReply(t, inside)
	}
	outside.Sent() // what it has said so far
	if err := host.TakeOver(); err != nil {
		t.Error(err)
	}
	if sent := outside.AwaitSent(1, time.Minute); len(sent) == 0 {
		t.Error("nothing announced after the takeover")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// awaitReply waits for the answer to arpRequest, among what the NAT says by itself.
func awaitReply(t *testing.T, card *agenttest.Memory) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		for _, frame := range card.AwaitSent(1, time.Minute) {
			if len(frame) >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 2 && frame[5] == 9 {
				return
			}
		}
	}
	t.Fatal("no answer")
}

func TestCardThatIsNotThere(t *testing.T) {
	agent, _ := agenttest.Start(t, guestagent.Config{}, agenttest.NewMemory("eth0", 1, queues, 64))
	if _, err := open(agent, options{cards: [2]string{"eth0", "eth1"}, addresses: [2]string{nat.In: "10.1.0.1/24"}}); err == nil {
		t.Error("no error")
	}
}
