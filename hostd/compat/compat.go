// Package compat tells whether a machine of one host can go on, on another: what a host
// offers a machine, and what is missing at a standby, each with what to do. What hosts
// unlike each other would make otherwise is settled before anything is copied.
package compat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// askLimit bounds what QEMU is asked for that, each time: how long the other host takes
// is no part of it.
const askLimit = 10 * time.Second

// ByVersion is a specification with the machine type that an alias like "pc" stands for on
// this host: QEMU is asked for it. Where it does not tell, the specification is as it was.
func ByVersion(ctx context.Context, m *qmp.Client, s spec.Machine) (spec.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	name, err := m.MachineType(ctx)
	if err == nil && spec.IsMachineType(name) {
		s.Machine = name
	}
	return s, err
}

// AdviseOnType says what to do where this host's QEMU does not know the machine type.
func AdviseOnType(err error) error {
	if !strings.Contains(err.Error(), "unsupported machine type") { // QEMU's system/vl.c
		return err
	}
	return fmt.Errorf("%w: the hosts' QEMUs differ; name a type that both know in the specification, \"machine: pc-i440fx-10.0\" for instance, and start the machine anew", err)
}

// cardFeatures are those properties of QEMU's virtio cards that a guest may use and
// that hosts may lack (hw/net/virtio-net.c, virtio_net_properties).
var cardFeatures = []string{"mrg_rxbuf", "csum", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
	"guest_uso4", "guest_uso6", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "host_uso"}

// UnknownProtocol says that a host speaks a version of the replica protocol which this one
// does not.
func UnknownProtocol(host string, version uint16) error {
	return fmt.Errorf("host %s speaks version %d of the replica protocol, this host versions %d to %d: bring both to one release",
		host, version, replica.ProtocolOldest, replica.ProtocolNewest)
}

// Offers are what this host has for a machine's ports: the features of their cards, which
// its QEMU is asked for, and the MTUs of their uplinks.
func Offers(ctx context.Context, m *qmp.Client, ports []spec.Port, mtu func(port int) int) (replica.Cards, error) {
	features, err := features(ctx, m, ports)
	c := replica.Cards{Features: features}
	for i := range ports {
		c.MTUs = append(c.MTUs, uint32(mtu(i)))
	}
	return c, err
}

// features that this QEMU's cards offer; none where it has no such cards: an earlier
// version of this daemon has started it.
func features(ctx context.Context, m *qmp.Client, ports []spec.Port) (all [][]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	uso := sync.OnceValue(machine.TapsHaveUSO) // a tap is made for it
	for i, port := range ports {
		get := func(property string, value any) error {
			return m.QOMGet(ctx, machine.CardPath(i), property, value)
		}
		offered, err := featuresOf(get, uso)
		if err != nil {
			return nil, fmt.Errorf("ask QEMU what the card of port %s offers: %w", port.Name, err)
		}
		if offered == nil {
			return nil, nil
		}
		all = append(all, offered)
	}
	return all, nil
}

// featuresOf one card, which get asks; nil if there is none. What QEMU refuses to tell it
// does not know. Any other error tells nothing, and must not pass for "off".
func featuresOf(get func(property string, value any) error, uso func() bool) ([]string, error) {
	refused := func(err error) bool { return errors.As(err, new(*qmp.RefusedError)) }
	var kind string
	if err := get("type", &kind); err != nil {
		if refused(err) {
			return nil, nil
		}
		return nil, err
	}
	offered := []string{}
	for _, name := range cardFeatures {
		var on bool
		if err := get(name, &on); err != nil && !refused(err) {
			return nil, err
		}
		if on && (!strings.Contains(name, "uso") || uso()) {
			offered = append(offered, name)
		}
	}
	return offered, nil
}

// Limits compares for how long each host waits for the other: an heir outlasts the old
// primary by its own limit.
func Limits(here, there time.Duration, peer string) error {
	if here == there {
		return nil
	}
	return fmt.Errorf("detection.limit is %v on host %s and %v on this host: it must be the same on hosts that share machines; "+
		"set it in their configurations and start the daemons anew", there, peer, here)
}

// Cards compares what the standby has for the ports with what this host has.
func Cards(ports []spec.Port, here, there replica.Cards, peer string) error {
	for _, n := range []int{len(there.Features), len(there.MTUs)} {
		if n != 0 && n != len(ports) {
			return fmt.Errorf("the standby tells of %d cards of a machine that has %d", n, len(ports))
		}
	}
	if err := checkMTUs(ports, here.MTUs, there.MTUs, peer); err != nil {
		return err
	}
	return checkFeatures(ports, here.Features, there.Features)
}

// checkMTUs: the guest sends frames that fit the uplink here, and no longer ones fit the
// standby's. What is not known is not compared.
func checkMTUs(ports []spec.Port, here, there []uint32, peer string) error {
	for i, mtu := range there {
		if mtu != 0 && mtu < here[i] {
			return fmt.Errorf("the standby's uplink of port %s has an MTU of %d, and the one here of %d: after a takeover what is longer would be lost; "+
				"give uplink %s on host %s an MTU of at least %d", ports[i].Name, mtu, here[i], ports[i].Uplink, peer, here[i])
		}
	}
	return nil
}

// checkFeatures: the guest may have come to use any that a card here offers. Where one of
// the QEMUs does not tell nothing is compared.
func checkFeatures(ports []spec.Port, here, there [][]string) error {
	for i := range min(len(here), len(there)) {
		if missing := without(here[i], there[i]); len(missing) > 0 {
			return fmt.Errorf("the standby's card of port %s does not offer %s, which the guest may use: the hosts' kernels or QEMUs differ; "+
				"bring them to one version, or start the machine anew with \"offloads: false\" for that port", ports[i].Name, strings.Join(missing, ", "))
		}
	}
	return nil
}

func without(all, some []string) (rest []string) {
	for _, name := range all {
		if !slices.Contains(some, name) {
			rest = append(rest, name)
		}
	}
	return rest
}
