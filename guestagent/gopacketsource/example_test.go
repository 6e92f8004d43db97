package gopacketsource_test

import (
	"fmt"
	"io"
	"log"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/guestagent/agenttest"
	"github.com/stillpoint-ft/stillpoint/guestagent/gopacketsource"
)

// A program that reads packets with gopacket changes the line that opens its handle.
func Example() {
	agent, err := guestagent.Start(guestagent.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer agent.Close()
	// A program in a guest calls agent.OpenPort("eth0", guestagent.PortOptions{}).
	card := agenttest.NewMemory("eth0", 1, 1, 64)
	port, err := agent.OpenDevice(card)
	if err != nil {
		log.Fatal(err)
	}
	card.Inject(0, []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb5hello"))

	handle := gopacketsource.New(port, 0, 0)
	source := gopacket.NewPacketSource(handle, layers.LinkTypeEthernet)
	for range 1 {
		packet, err := source.NextPacket()
		if err == io.EOF { // the port was closed
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(packet.LinkLayer().LinkFlow())
		if err := handle.WritePacketData(packet.Data()); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(len(card.Sent()), "sent")
	// Output:
	// 02:00:00:00:00:02->02:00:00:00:00:01
	// 1 sent
}
