//go:build linux

package main

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestParseOptions(t *testing.T) {
	o, err := parseOptions(`console=ttyS0 quiet "stillpoint.nat=-oracle,-in-addr=10.1.0.1/24" stillpoint.eth0=10.1.0.1/24,10.3.0.1/16 stillpoint.dirty=300 stillpoint.shell stillpoint.channel=flood stillpoint.offloads=keep` + "\n")
	if err != nil {
		t.Fatal(err)
	}
	want := options{
		nat:       []string{"-oracle", "-in-addr=10.1.0.1/24"},
		addresses: map[string][]netip.Prefix{"eth0": {netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("10.3.0.1/16")}},
		dirty:     300,
		shell:     true,
		flood:     true,
		offloads:  true,
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("parsed\n%+v, want\n%+v", o, want)
	}
}

func TestParseOptionsNone(t *testing.T) {
	for _, line := range []string{"", "console=ttyS0 panic=-1", `stillpoint.nat=""`, "stillpoint.nat"} {
		if o, err := parseOptions(line); err != nil || o.nat != nil || o.dirty != 0 || len(o.addresses) != 0 {
			t.Errorf("%q: %+v, %v", line, o, err)
		}
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for _, line := range []string{
		"stillpoint.dirty=many", "stillpoint.dirty=-1", "stillpoint.dirty=99999999",
		"stillpoint.eth0=10.1.0.1", "stillpoint.eth0=10.1.0.1/33", "stillpoint.eth1=fe80::1/64",
		"stillpoint.nta=-oracle",
	} {
		if o, err := parseOptions(line); err == nil {
			t.Errorf("%q gave %+v", line, o)
		}
	}
}
