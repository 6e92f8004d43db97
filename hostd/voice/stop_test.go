package voice

import (
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// TestAStopWaitsForWhoSpeaks: nobody speaks once it has returned.
func TestAStopWaitsForWhoSpeaks(t *testing.T) {
	d := NewDoor("a")
	d.Stands(arbiter.Record{Generation: 1, Voice: "a"})
	returned := make(chan struct{})
	d.Speak(func() {
		go func() {
			d.Stop()
			close(returned)
		}()
		for d.mu.TryRLock() { // until the stop waits
			d.mu.RUnlock()
			select {
			case <-returned:
				t.Error("the stop has returned, and somebody speaks")
				return
			default:
			}
		}
	})
	<-returned
	if d.Speak(func() {}) {
		t.Error("something left after a stop")
	}
}
