package link

import (
	"sync"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// TestASenderDoesNotWaitForWhatAPeerSaidLast: who sends may be who would read next.
func TestASenderDoesNotWaitForWhatAPeerSaidLast(t *testing.T) {
	a, b := ends(t, options(), options())
	a.beat(1)
	if err := b.Send(replica.Header{Type: replica.TypeReject}, replica.Reject{Reason: "no room"}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	b.Close(nil)
	began := time.Now()
	for a.Send(replica.Header{Type: replica.TypeHeartbeat}, make([]byte, 16)) == nil {
	}
	if took := time.Since(began); took > options().Limit/2 {
		t.Errorf("a send failed after %v", took)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { _ = a.Send(replica.Header{Type: replica.TypeAck}) })
	}
	both.Wait()
	h, _, err := a.Receive()
	if err != nil || h.Type != replica.TypeReject {
		t.Errorf("got %v, %v, want the reject", h.Type, err)
	}
}
