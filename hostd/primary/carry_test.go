package primary

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// TestATornCheckpointsOutputWaits for the next that is whole, and makes that due.
func TestATornCheckpointsOutputWaits(t *testing.T) {
	state := status.NewMachine(pair.Protected)
	state.Tear()
	state.Tear() // no event is due of the third
	p := &Session{log: hclog.NewNullLogger(), o: Options{State: state}}
	said := &gate.Output{Epoch: 7}
	p.carry(&taken{epoch: &capture.Epoch{}, output: []*gate.Output{said}, frames: 1})
	if len(p.outputs) != 1 || p.outputs[0] != said {
		t.Errorf("%d outputs are kept", len(p.outputs))
	}
	if !p.learned.Held || p.torn != 1 {
		t.Errorf("%+v, torn %d", p.learned, p.torn)
	}
}
