package compat

import (
	"errors"
	"slices"
	"strings"
	"testing"

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
