package daemon

import (
	"context"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
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
	retries, orders := map[string]policy.Retry{}, uint64(0)
	for {
		alone, changed := g.alone()
		if !alone {
			wait, since = tendFirst, time.Time{}
			clear(retries)
			g.state.SetRetry("", policy.Retry{})
			select {
			case <-changed:
			case <-g.ctx.Done():
				return
			}
			continue
		}
		if now := g.state.Orders(); now != orders { // an operator knows better
			orders, wait = now, tendFirst
			clear(retries)
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
		g.protectAgain(time.Since(since) > sparesAfter, retries)
	}
}

// alone reports that the machine runs here without the standby it should have.
func (g *guest) alone() (bool, <-chan struct{}) {
	role, changed := g.state.Role()
	return role == pair.Solo && g.state.Wanted() != "" && !g.ended() && !g.d.withdrawing.Load(), changed
}

// protectAgain tries one standby after the other until one protects the machine. One
// that answers and refuses is worth no more than one that cannot be reached. One with
// which it fails again and again is tried ever less often.
func (g *guest) protectAgain(spares bool, retries map[string]policy.Retry) {
	for _, peer := range g.candidates(spares) {
		if err := g.d.probe(g.ctx, peer); err != nil {
			g.log.Debug("standby out of reach", "peer", peer, "error", err)
			retries[peer] = retries[peer].Lost()
			continue
		}
		if alone, _ := g.alone(); !alone || g.ctx.Err() != nil {
			return
		}
		if !retries[peer].Due(time.Now()) {
			continue
		}
		g.publish(status.Event{Kind: status.Reprotecting, Message: "host " + peer + " is there; protecting the machine again"})
		failures := g.state.Failures()
		if err := g.protectWanted(peer); err != nil {
			g.log.Debug("machine not protected now", "peer", peer, "error", err)
			return
		}
		err := g.await(g.ctx, func(role pair.Role) (bool, error) { return g.protectedSince(role, failures) })
		if err == nil {
			g.state.SetFailure("")
			return
		}
		if g.ctx.Err() != nil {
			return
		}
		r := retries[peer].Failed(time.Now())
		retries[peer] = r
		g.state.SetRetry(peer, r)
		g.log.Warn("machine not protected again", "standby", peer, "failures", r.Failures(), "again-in", time.Until(r.At()).Round(time.Second), "error", err)
	}
}

// protectWanted by a peer, unless an operator has ended the waiting meanwhile.
func (g *guest) protectWanted(peer string) error {
	return g.askWhile(g.ctx, pair.Protect{Standby: peer}, func() bool { return g.state.Wanted() != "" })
}

func (g *guest) candidates(spares bool) []string {
	wanted := g.state.Wanted()
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
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	conn, err := d.dial(ctx, peer)
	if err != nil {
		return err
	}
	return conn.Close()
}
