// Command nat is the network function that the lab protects: a source NAT
// between two network cards, run behind the guest agent.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/images/nat"
)

type options struct {
	cards     [2]string
	addresses [2]string
	gateway   string
	oracle    bool
	channel   string
	noAgent   bool
	stats     time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.cards[nat.In], "in", "eth0", "card of the inside")
	flag.StringVar(&o.cards[nat.Out], "out", "eth1", "card of the outside")
	flag.StringVar(&o.addresses[nat.In], "in-addr", "10.1.0.1/24", "own address inside, with the network's prefix length")
	flag.StringVar(&o.addresses[nat.Out], "out-addr", "10.2.0.1/24", "own address outside, with the network's prefix length")
	flag.StringVar(&o.gateway, "gateway", "", "next hop beyond the outside network")
	flag.BoolVar(&o.oracle, "oracle", false, "stamp forwarded test packets with a running number")
	flag.StringVar(&o.channel, "channel", guestagent.DefaultChannel, "virtio-serial port of the agent")
	flag.BoolVar(&o.noAgent, "no-agent", false, "do not talk to the host")
	flag.DurationVar(&o.stats, "stats-interval", time.Minute, "print counters this often; 0 is never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "nat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	log := hclog.New(&hclog.LoggerOptions{Name: "nat", Level: hclog.Info, DisableTime: true})
	config := guestagent.Config{Log: log, Channel: o.channel}
	if o.noAgent {
		config.Channel = "none.stillpoint"
	}
	agent, err := guestagent.Start(config)
	if err != nil {
		return err
	}
	defer agent.Close()
	f, err := open(agent, o)
	if err != nil {
		return err
	}
	f.log = log
	return f.run(ctx, o.stats)
}

// open opens both cards and makes the NAT between them.
func open(agent *guestagent.Agent, o options) (*forwarder, error) {
	f := &forwarder{agent: agent, started: time.Now(), takenOver: make(chan struct{}, 1)}
	c := nat.Config{Oracle: o.oracle}
	for i, side := range []*nat.PortConfig{&c.In, &c.Out} {
		port, err := agent.OpenPort(o.cards[i], guestagent.PortOptions{TxQueues: queues, RingSlots: ringSlots, Promiscuous: true})
		if err != nil {
			return nil, err
		}
		f.ports[i] = port
		copy(side.MAC[:], port.Info().HardwareAddr)
		side.MTU = port.Info().MTU
		if side.Prefix, err = netip.ParsePrefix(o.addresses[i]); err != nil {
			return nil, fmt.Errorf("address of the %v port: %w", nat.Port(i), err)
		}
	}
	var err error
	if o.gateway != "" {
		if c.Gateway, err = netip.ParseAddr(o.gateway); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if f.nat, err = nat.New(c); err != nil {
		return nil, err
	}
	agent.OnTakeover(f.onTakeover)
	return f, nil
}
