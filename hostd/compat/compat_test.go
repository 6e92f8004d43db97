package compat

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// TestFeaturesOfACard: what QEMU does not know is off, and what it did not answer is
// unknown, which is neither.
func TestFeaturesOfACard(t *testing.T) {
	silent := errors.New("no answer")
	card := func(errs map[string]error) func(string, any) error {
		return func(property string, value any) error {
			if err := errs[property]; err != nil {
				return err
			}
			if on, ok := value.(*bool); ok {
				*on = property == "csum" || property == "guest_tso4" || property == "host_uso"
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		errs map[string]error
		uso  bool
		want []string
		err  error
	}{
		"all told":           {nil, true, []string{"csum", "guest_tso4", "host_uso"}, nil},
		"taps without USO":   {nil, false, []string{"csum", "guest_tso4"}, nil},
		"a property unknown": {map[string]error{"guest_tso4": &qmp.RefusedError{}}, true, []string{"csum", "host_uso"}, nil},
		"no such card":       {map[string]error{"type": &qmp.RefusedError{}}, true, nil, nil},
		"no answer":          {map[string]error{"guest_tso4": silent}, true, nil, silent},
		"no answer at all":   {map[string]error{"type": silent}, true, nil, silent},
	} {
		got, err := featuresOf(card(c.errs), func() bool { return c.uso })
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestAdviceOnAMachineType(t *testing.T) {
	unknown := errors.New("QEMU ended: exit status 1\nqemu-system-x86_64: unsupported machine type: \"pc-i440fx-11.1\"")
	if err := AdviseOnType(unknown); !errors.Is(err, unknown) || !strings.Contains(err.Error(), "machine: pc-i440fx-10.0") {
		t.Error(err)
	}
	if other := errors.New("no room"); AdviseOnType(other) != other {
		t.Error(AdviseOnType(other))
	}
}

func TestWithout(t *testing.T) {
	if rest := without([]string{"A", "B", "C"}, []string{"C", "A", "D"}); !slices.Equal(rest, []string{"B"}) {
		t.Errorf("%q", rest)
	}
	if rest := without([]string{"A"}, []string{"A"}); rest != nil {
		t.Errorf("%q", rest)
	}
}

// TestWhatAHostOffers is asked of its QEMU; nothing is said of one that does not tell.
func TestWhatAHostOffers(t *testing.T) {
	m := falseqemu.Begin(t, falseqemu.Guest{Series: 10}, 1<<20, false).Monitor()
	ports := []spec.Port{{Name: "in"}, {Name: "out"}}
	c, err := Offers(t.Context(), m, ports, func(port int) int { return 1500 + port })
	if err != nil || len(c.Features) != 2 || !slices.Contains(c.Features[1], "csum") || !slices.Equal(c.MTUs, []uint32{1500, 1501}) {
		t.Errorf("%+v, %v", c, err)
	}
	s, err := ByVersion(t.Context(), m, spec.Machine{Machine: "pc"})
	if err != nil || s.Machine != "pc-i440fx-10.0" {
		t.Errorf("%s, %v", s.Machine, err)
	}
	m.Close()
	if s, err = ByVersion(t.Context(), m, spec.Machine{Machine: "pc"}); err == nil || s.Machine != "pc" {
		t.Errorf("%s, %v", s.Machine, err)
	}
	if _, err := Offers(t.Context(), m, ports, func(int) int { return 0 }); err == nil || !strings.Contains(err.Error(), "port in") {
		t.Error(err)
	}
}

func TestWhatDiffersIsTold(t *testing.T) {
	ports := []spec.Port{{Name: "in", Uplink: "eth0"}}
	here := replica.Cards{Features: [][]string{{"csum", "host_tso4"}}, MTUs: []uint32{1500}}
	for name, c := range map[string]struct {
		there replica.Cards
		why   string // empty: nothing differs
	}{
		"alike":              {here, ""},
		"more":               {replica.Cards{Features: [][]string{{"csum", "host_tso4", "host_uso"}}, MTUs: []uint32{9000}}, ""},
		"not told":           {replica.Cards{}, ""},
		"an unknown MTU":     {replica.Cards{MTUs: []uint32{0}}, ""},
		"a smaller MTU":      {replica.Cards{MTUs: []uint32{1400}}, "give uplink eth0 on host b an MTU of at least 1500"},
		"fewer features":     {replica.Cards{Features: [][]string{{"csum"}}}, "does not offer host_tso4"},
		"more cards":         {replica.Cards{Features: [][]string{{}, {}}}, "2 cards of a machine that has 1"},
		"MTUs of more cards": {replica.Cards{MTUs: []uint32{1, 2}}, "2 cards of a machine that has 1"},
	} {
		err := Cards(ports, here, c.there, "b")
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
	if err := Limits(time.Second, time.Second, "b"); err != nil {
		t.Error(err)
	}
	if err := Limits(time.Second, 2*time.Second, "b"); err == nil || !strings.Contains(err.Error(), "2s on host b and 1s on this host") {
		t.Error(err)
	}
	if err := UnknownProtocol("b", 99); !strings.Contains(err.Error(), "host b speaks version 99") {
		t.Error(err)
	}
}
