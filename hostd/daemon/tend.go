package daemon

import (
	"context"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const (
	tendFirst = 200 * time.Millisecond
	tendMost  = 3 * time.Second
	// sparesAfter is how long a machine waits for its own standby before a spare
	// takes its place.
	sparesAfter = 15 * time.Second
	probeLimit  = time.Second
)

// tend protects the machine again whenever it should have a standby and has
// none. It returns when the guest ends.
func (g *guest) tend() {
	wait, since := tendFirst, time.Time{}
	for {
		alone, changed := g.alone()
		if !alone {
			wait, since = tendFirst, time.Time{}
			select {
			case <-changed:
			case <-g.ctx.Done():
				return
			}
			continue
		}
		if since.IsZero() {
			since = time.Now()
		}
		select {
		case <-time.After(wait):
		case <-g.ctx.Done():
			return
		}
		wait = min(wait*3/2, tendMost)
		g.protectAgain(time.Since(since) > sparesAfter)
	}
}

// alone reports that the machine runs here without the standby it should have.
func (g *guest) alone() (bool, <-chan struct{}) {
	role, changed := g.board.role()
	return role == string(pair.Solo) && g.board.wanted() != "" && !g.ended(), changed
}

// protectAgain tries one standby after the other until one protects the machine. One
// that answers and refuses is worth no more than one that cannot be reached.
func (g *guest) protectAgain(spares bool) {
	for _, peer := range g.candidates(spares) {
		if err := g.d.probe(g.ctx, peer); err != nil {
			g.log.Debug("standby out of reach", "peer", peer, "error", err)
			continue
		}
		if alone, _ := g.alone(); !alone || g.ctx.Err() != nil {
			return
		}
		g.publish(&control.Event{Kind: "reprotecting", Message: "host " + peer + " is there; the machine is protected again"})
		failures := g.board.failuresNow()
		if err := g.ask(g.ctx, pair.Protect{Standby: peer}); err != nil {
			g.log.Debug("machine not protected now", "peer", peer, "error", err)
			return
		}
		if err := g.await(g.ctx, func(role string) (bool, error) { return g.protectedSince(role, failures) }); err == nil {
			g.board.setFailure("")
			return
		}
	}
}

func (g *guest) candidates(spares bool) []string {
	wanted := g.board.wanted()
	all := []string{wanted}
	for _, p := range g.d.config.Peers {
		if spares && p.Spare && p.Name != wanted {
			all = append(all, p.Name)
		}
	}
	return all
}

// probe asks whether a peer's daemon answers at all.
func (d *Daemon) probe(ctx context.Context, peer string) error {
	address, err := d.peerAddress(peer)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	conn, err := d.network.Dial(ctx, peer, address)
	if err != nil {
		return err
	}
	return conn.Close()
}
