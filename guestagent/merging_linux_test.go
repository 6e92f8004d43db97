package guestagent

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// card has features, of which some cannot be changed.
type card struct {
	on, fixed []string
	err       error
}

func (c *card) FeaturesWithState(string) (map[string]ethtool.FeatureState, error) {
	all := map[string]ethtool.FeatureState{}
	for _, name := range c.on {
		all[name] = ethtool.FeatureState{Active: true}
	}
	return all, c.err
}

func (c *card) Change(_ string, config map[string]bool) error {
	c.on = slices.DeleteFunc(c.on, func(name string) bool {
		value, named := config[name]
		return named && !value && !slices.Contains(c.fixed, name)
	})
	return nil
}

func TestMergingIsSwitchedOffWhateverTheCardCallsIt(t *testing.T) {
	c := &card{on: []string{"rx-checksum", "rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "rx-udp-gro-forwarding", "tx-tcp-segmentation"}}
	if err := switchOff(c, "eth0"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"rx-checksum", "tx-tcp-segmentation"}; !slices.Equal(c.on, want) {
		t.Errorf("on are %v, want %v", c.on, want)
	}
}

func TestMergingThatStaysIsToldWithWhatToDo(t *testing.T) {
	c := &card{on: []string{"rx-gro", "rx-gro-hw"}, fixed: []string{"rx-gro-hw"}}
	err := switchOff(c, "eth0")
	if err == nil || !strings.Contains(err.Error(), "rx-gro-hw stay on") || !strings.Contains(err.Error(), "offloads: false") {
		t.Errorf("got %v", err)
	}
}

func TestInterfaceWithoutOffloads(t *testing.T) {
	if err := switchOff(&card{err: unix.EOPNOTSUPP}, "dummy"); err != nil {
		t.Error(err)
	}
	if err := switchOff(&card{err: unix.ENODEV}, "gone"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v", err)
	}
}
