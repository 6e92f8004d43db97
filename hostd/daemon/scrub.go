package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/status"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
)

// Scrub compares the memory that a standby keeps with what its primary has sent.
func (d *Daemon) Scrub(ctx context.Context, name string) (found status.Scrub, err error) {
	g, err := d.known(name)
	if err != nil {
		return found, err
	}
	s := g.asStandby.Load()
	if role, _ := g.state.Role(); s == nil || role != pair.Standby {
		where := ""
		if peer := g.state.Peer(); peer != "" {
			where = fmt.Sprintf("; its replica is on host %s: scrub it there", peer)
		}
		return found, api.Refuse(api.NotNow, "machine %s is %s on host %s: only a standby can be scrubbed%s", g.name, role, d.config.Host, where)
	}
	if found, err = s.scrub(ctx); err != nil {
		return found, api.Refuse(api.NotNow, "machine %s: %v", g.name, err)
	}
	return found, nil
}

// scrub the replica, and give it up if it is damaged.
func (s *standby) scrub(ctx context.Context) (status.Scrub, error) {
	found, err := s.replica.Scrub(ctx)
	if errors.Is(err, store.ErrLost) && s.ctx.Err() == nil {
		s.giveUp(err)
	}
	if err != nil {
		return status.Scrub{}, err
	}
	s.g.state.Scrubbed(found.Pages, found.Wrong)
	result := status.Scrub{Pages: found.Pages, WrongPages: found.Wrong, ReplicaEpoch: s.g.state.ReplicaEpoch()}
	for _, d := range found.First {
		result.Damage = append(result.Damage, status.Damage{Block: d.Block, Offset: d.Offset})
	}
	if found.Wrong > 0 {
		first := found.First[0]
		s.giveUp(fmt.Errorf("scrub: %d of %d pages are not what the primary has sent, the first at %#x of %s", found.Wrong, found.Pages, first.Offset, first.Block))
		return result, nil
	}
	s.g.publish(status.Event{Kind: status.Scrubbed, Message: fmt.Sprintf("all %d pages are what the primary has sent", found.Pages)})
	return result, nil
}
