package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// shutdownLimit bounds what a daemon that ends on request does for its machines.
const shutdownLimit = 10 * time.Second

// withdraw ends the daemon's part in every pair as gently as it can: protected
// machines move to their standbys, and standbys say good-bye, so that nobody
// takes this host for dead.
func (d *Daemon) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancel()
	d.withdrawing.Store(true)
	goesDown := sync.OnceValue(func() bool { return d.hostGoesDown(ctx) }) // of all machines
	var all sync.WaitGroup
	for _, g := range d.list() {
		switch role, _ := g.state.Role(); role {
		case pair.Protected:
			all.Go(func() { g.moveAway(ctx, goesDown) })
		case pair.Standby:
			all.Go(func() { g.sayGoodbye(ctx) })
		}
	}
	all.Wait()
}

// moveAway lets the standby run the machine. If it does not, the machine stays,
// silent, for the next daemon.
func (g *guest) moveAway(ctx context.Context, goesDown func() bool) {
	if err := g.awaitFit(ctx); err != nil && !goesDown() {
		g.stay(ctx, err)
		return
	} else if err != nil {
		g.log.Warn("this host goes down: the machine moves to its standby all the same", "error", err)
	}
	failures := g.state.Failures()
	err := g.ask(ctx, pair.SwitchoverAsked{})
	if err == nil {
		err = g.await(ctx, func(role pair.Role) (bool, error) { return g.movedSince(role, failures) })
	}
	if err != nil {
		g.log.Warn("machine not moved to its standby", "error", err)
	}
}

// hostGoesDown: what stays here is lost then.
func (d *Daemon) hostGoesDown(ctx context.Context) bool { return d.goesDown != nil && d.goesDown(ctx) }

// linkPatience is for how long a daemon that ends waits for what its standby's ports lack: a
// carrier that is away for a moment.
const linkPatience = 3 * time.Second

// awaitFit returns why the machine should not move to its standby, if that stays so.
func (g *guest) awaitFit(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	tick := time.NewTicker(linkPatience / 30)
	defer tick.Stop()
	for {
		if err = g.fitsThere(); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// stay ends the pair first: the standby would take the end of the link for this host's.
func (g *guest) stay(ctx context.Context, why error) {
	g.log.Warn("machine not moved to its standby, and the pair ended; the next daemon protects it again", "error", why)
	g.post(pair.LinkLost{Why: "this daemon ends, and the machine is not moved: " + why.Error()})
	if err := g.await(ctx, func(role pair.Role) (bool, error) { return role != pair.Protected, nil }); err != nil {
		g.log.Warn("the pair was not ended; its standby may take over", "error", err)
	}
}

// sayGoodbye ends a standby's part before it can take its primary for dead.
func (g *guest) sayGoodbye(ctx context.Context) {
	g.post(pair.StandbyDropped{Why: "the standby's daemon ends"})
	select {
	case <-g.ctx.Done():
	case <-ctx.Done():
	}
}
