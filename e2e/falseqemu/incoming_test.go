package falseqemu

import (
	"bytes"
	"testing"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

// incomingOf is the stream of a takeover of a machine with that much memory.
func incomingOf(t *testing.T, memory uint64, device []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	err := colo.WriteIncoming(&b, colo.Incoming{Machine: "pc-1", RAM: colo.Section{ID: 2, Version: 4}, Device: device,
		Blocks: []colo.IncomingBlock{{Block: colo.Block{Name: block, Size: memory}, Shared: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestATakeoverNeedsAWholeStream of this machine.
func TestATakeoverNeedsAWholeStream(t *testing.T) {
	good := incomingOf(t, memory, appendDevices(nil, 64))
	if err := readIncoming(bytes.NewReader(good), memory); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if readIncoming(bytes.NewReader(good[:n]), memory) == nil {
			t.Errorf("a stream that was cut after %d of %d bytes is taken", n, len(good))
		}
	}
	if readIncoming(bytes.NewReader(good), 2*memory) == nil {
		t.Error("a machine with other memory is taken")
	}
	if readIncoming(bytes.NewReader(incomingOf(t, memory, make([]byte, 64))), memory) == nil {
		t.Error("device state that is none is taken")
	}
}
