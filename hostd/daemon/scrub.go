package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// Scrub compares the memory that a standby keeps with what its primary has sent.
func (a *api) Scrub(ctx context.Context, r *control.MachineRequest) (*control.ScrubReply, error) {
	g, err := a.guest(r.Name)
	if err != nil {
		return nil, err
	}
	s := g.asStandby.Load()
	if role, _ := g.board.role(); s == nil || role != string(pair.Standby) {
		where := ""
		if peer := g.board.peer(); peer != "" {
			where = fmt.Sprintf("; its replica is on host %s: scrub it there", peer)
		}
		return nil, status.Errorf(codes.FailedPrecondition, "machine %s is %s on host %s: only a standby can be scrubbed%s", g.name, role, a.d.config.Host, where)
	}
	reply, err := s.scrub(ctx)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "machine %s: %v", g.name, err)
	}
	return reply, nil
}

// scrub the replica, and give it up if it is damaged.
func (s *standby) scrub(ctx context.Context) (*control.ScrubReply, error) {
	found, err := s.replica.Scrub(ctx)
	if errors.Is(err, store.ErrLost) && s.ctx.Err() == nil {
		s.giveUp(err)
	}
	if err != nil {
		return nil, err
	}
	s.g.board.scrubbed(found)
	reply := &control.ScrubReply{Name: s.g.name, Pages: found.Pages, WrongPages: found.Wrong, ReplicaEpoch: s.g.board.replica()}
	for _, d := range found.First {
		reply.Damage = append(reply.Damage, &control.Damage{Block: d.Block, Offset: d.Offset})
	}
	if found.Wrong > 0 {
		first := found.First[0]
		s.giveUp(fmt.Errorf("scrub: %d of %d pages are not what the primary has sent, the first at %#x of %s", found.Wrong, found.Pages, first.Offset, first.Block))
		return reply, nil
	}
	s.g.publish(&control.Event{Kind: "scrubbed", Message: fmt.Sprintf("all %d pages are what the primary has sent", found.Pages)})
	return reply, nil
}

func (b *board) scrubbed(found store.Scrubbed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scrubs++
	b.scrubbedPages += found.Pages
	b.wrongPages += found.Wrong
	b.lastScrub = time.Now()
}

func (b *board) replica() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.replicaEpoch
}
