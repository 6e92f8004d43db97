package daemon

import (
	"reflect"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// TestATornCheckpointsOutputWaits for the next that is whole, and makes that due.
func TestATornCheckpointsOutputWaits(t *testing.T) {
	g := &guest{log: hclog.NewNullLogger(), state: status.NewMachine(pair.Protected)}
	g.state.Tear()
	g.state.Tear() // no event is due of the third
	p := &protection{g: g}
	said := &gate.Output{Epoch: 7}
	p.carry(&taken{epoch: &capture.Epoch{}, output: []*gate.Output{said}, frames: 1})
	if len(p.outputs) != 1 || p.outputs[0] != said {
		t.Errorf("%d outputs are kept", len(p.outputs))
	}
	if !p.learned.Held || p.torn != 1 {
		t.Errorf("%+v, torn %d", p.learned, p.torn)
	}
}

// TestWhatAStopRefusedIsSaidInItsRole: what a protected machine has not committed stays.
func TestWhatAStopRefusedIsSaidInItsRole(t *testing.T) {
	kept := []pair.Effect{pair.Release{Epoch: 3}, pair.PassOutput{}, pair.GoLive{}}
	for role, want := range map[pair.Role][]pair.Effect{
		pair.Solo:      kept,
		pair.Protected: {kept[0], kept[2]},
	} {
		if got := stillDue(kept, role); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", role, got)
		}
	}
}
