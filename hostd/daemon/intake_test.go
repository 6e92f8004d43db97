package daemon

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestAGuestWithoutBuffersIsWaitedFor, but not again and again where that is of no use.
func TestAGuestWithoutBuffersIsWaitedFor(t *testing.T) {
	var b buffers
	asked, none := 0, 3
	ask := func(context.Context) (bool, error) {
		asked++
		return asked <= none, nil
	}
	if err := b.await(t.Context(), ask); err != nil || asked != 4 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	asked, none = 0, 1<<30
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.await(ctx, ask); !errors.Is(err, errNoBuffers) || asked < 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	asked = 0
	if err := b.await(t.Context(), ask); !errors.Is(err, errNoBuffers) || asked != 1 {
		t.Errorf("a guest that had no buffers is asked %d times: %v", asked, err)
	}
	asked, none = 0, 0
	if err := b.await(t.Context(), ask); err != nil || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	asked, none = 0, 1
	if err := b.await(t.Context(), ask); err != nil || asked != 2 {
		t.Errorf("a guest that has buffers again is asked %d times: %v", asked, err)
	}
	broken := errors.New("no answer")
	if err := b.await(t.Context(), func(context.Context) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}
