package standby

import (
	"context"
	"errors"
	"fmt"

	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// Scrub compares the replica with what the primary has sent, and gives it up if it is
// damaged. It may be called concurrently.
func (s *Session) Scrub(ctx context.Context) (status.Scrub, error) {
	found, err := s.replica.Scrub(ctx)
	if errors.Is(err, store.ErrLost) && s.ctx.Err() == nil {
		s.giveUp(err)
	}
	if err != nil {
		return status.Scrub{}, err
	}
	s.o.State.Scrubbed(found.Pages, found.Wrong)
	result := status.Scrub{Pages: found.Pages, WrongPages: found.Wrong, ReplicaEpoch: s.o.State.ReplicaEpoch()}
	for _, d := range found.First {
		result.Damage = append(result.Damage, status.Damage{Block: d.Block, Offset: d.Offset})
	}
	if found.Wrong > 0 {
		first := found.First[0]
		s.giveUp(fmt.Errorf("scrub: %d of %d pages are not what the primary has sent, the first at %#x of %s", found.Wrong, found.Pages, first.Offset, first.Block))
		return result, nil
	}
	s.o.Publish(status.Event{Kind: status.Scrubbed, Message: fmt.Sprintf("all %d pages are what the primary has sent", found.Pages)})
	return result, nil
}
