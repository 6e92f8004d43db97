package guestagent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// merging are the receive offloads by which a card or the kernel makes one frame of
// many: longer than the MTU, of no use to a program that forwards frames. Names as
// in the kernel's net/ethtool/common.c; a virtio card's own is rx-gro-hw, or rx-lro
// before Linux 5.16.
var merging = []string{"rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "rx-udp-gro-forwarding"}

// features is what [ethtool.Ethtool] tells and changes of an interface.
type features interface {
	FeaturesWithState(name string) (map[string]ethtool.FeatureState, error)
	Change(name string, config map[string]bool) error
}

// stopMerging switches those offloads off. An interface that has none is as good.
func stopMerging(name string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer e.Close()
	return switchOff(e, name)
}

func switchOff(e features, name string) error {
	on, err := active(e, name)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil || len(on) == 0 {
		return err
	}
	off := map[string]bool{}
	for _, feature := range on {
		off[feature] = false
	}
	failed := e.Change(name, off)
	if on, err = active(e, name); err != nil || len(on) == 0 {
		return err
	}
	return errors.Join(fmt.Errorf("the receive offloads %s stay on, so frames arrive merged; give the machine a card without them"+
		" (ports[].offloads: false), or set PortOptions.KeepGRO and lose merged frames", strings.Join(on, ", ")), failed)
}

func active(e features, name string) (on []string, err error) {
	all, err := e.FeaturesWithState(name)
	if err != nil {
		return nil, fmt.Errorf("read the offloads of %s: %w", name, err)
	}
	for _, feature := range merging {
		if all[feature].Active {
			on = append(on, feature)
		}
	}
	return on, nil
}
