package guestagent_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
)

// openPorts opens two ports without hardware, and closes them once so many frames have
// arrived and left. A program in a guest calls agent.OpenPort("eth0", ...) instead.
func openPorts(agent *guestagent.Agent, frames ...string) (in, out *guestagent.Port, wire *agenttest.Memory) {
	card := agenttest.NewMemory("in", 1, 1, 64)
	wire = agenttest.NewMemory("out", 1, 1, 64)
	in, err := agent.OpenDevice(card)
	if err != nil {
		log.Fatal(err)
	}
	if out, err = agent.OpenDevice(wire); err != nil {
		log.Fatal(err)
	}
	for _, frame := range frames {
		card.Inject(0, []byte(frame))
	}
	return in, out, wire
}

// A forwarder takes packets from one port and sends them through another. What TxBurst does
// not take is still the caller's: it has to be sent later, or freed, or the application
// never again holds no packet.
func Example() {
	agent, err := guestagent.Start(guestagent.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer agent.Close()
	in, out, wire := openPorts(agent, "one", "two", "three")

	packets := make([]*guestagent.Packet, 32)
	for forwarded := 0; forwarded < 3; {
		n, err := in.RxWait(0, packets, -1) // 0 packets while the host asks for a still point
		if errors.Is(err, guestagent.ErrClosed) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		sent := out.TxBurst(0, packets[:n])
		out.Free(0, packets[sent:n])
		forwarded += n
	}
	for _, frame := range wire.Sent() {
		fmt.Printf("%s\n", frame)
	}
	// Output:
	// one
	// two
	// three
}

// A program that works on one packet at a time reads from a source.
func ExamplePort_Source() {
	agent, err := guestagent.Start(guestagent.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer agent.Close()
	in, out, wire := openPorts(agent, "one", "two")

	source := in.Source(0, 0)
	for range 2 {
		packet, err := source.Next()
		if errors.Is(err, guestagent.ErrClosed) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", packet.Data)
		if !source.Forward(out, 0) { // the card has no room
			source.Release()
		}
	}
	fmt.Println(len(wire.Sent()), "sent")
	// Output:
	// one
	// two
	// 2 sent
}

// After a takeover the machine runs on another host, from its last committed checkpoint.
// Whatever a checkpoint cannot carry is set up again here, before packets flow.
func ExampleAgent_OnTakeover() {
	host := agenttest.NewHost() // a program in a guest has a real one
	defer host.Close()
	agent, err := guestagent.Start(host.Configure(guestagent.Config{}))
	if err != nil {
		log.Fatal(err)
	}
	defer agent.Close()
	agent.OnTakeover(func(t guestagent.Takeover) {
		fmt.Println("this machine has moved; generation", t.Generation)
	})
	if err := host.TakeOver(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("packets flow")
	// Output:
	// this machine has moved; generation 2
	// packets flow
}
