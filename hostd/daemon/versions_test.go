package daemon_test

import (
	"testing"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// TestAPrimaryThatKnowsANewerProtocol is answered in the newest that both know.
func TestAPrimaryThatKnowsANewerProtocol(t *testing.T) {
	_, b := pairOfHosts(t)
	frames := session("m")
	frames[0] = hello("m", replica.ProtocolNewest+1)
	got := b.tell(true, frames...)
	if !got.acked || got.protocol != replica.ProtocolNewest {
		t.Errorf("got %v, %q, version %d", got.frames, got.reject, got.protocol)
	}
	b.gone("m")
}
