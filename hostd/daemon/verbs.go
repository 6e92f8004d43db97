package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// Protect seeds a standby and waits, if asked to, until the pair is protected.
func (d *Daemon) Protect(ctx context.Context, name, standby string, wait bool) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	failures := g.state.Failures()
	if !g.protectedBy(standby) {
		if err := d.protectable(g, standby); err != nil {
			return v, api.Refuse(api.NotNow, "%v", err)
		}
		g.state.Ordered()
		if err := d.askOf(ctx, g, "protect", pair.Protect{Standby: standby}); err != nil {
			return v, err
		}
	}
	if !wait {
		return g.view(), nil
	}
	return d.await(ctx, g, "protect", func(role pair.Role) (bool, error) { return g.protectedSince(role, failures) })
}

// protectedSince tells what becomes of a protection that has begun.
func (g *guest) protectedSince(role pair.Role, failures uint64) (bool, error) {
	// The reason is known a moment before the role that follows from it.
	if why := g.state.FailedSince(failures); why != "" && role != pair.Seeding {
		return false, errors.New(why)
	}
	switch role {
	case pair.Protected:
		return true, nil
	case pair.Seeding:
		return false, nil
	case pair.Fenced:
		return false, errors.New("another host has the voice, or the machine was stopped")
	}
	if g.ended() {
		return false, g.qemu.Reason()
	}
	if g.qemuEnds() {
		return false, nil // until it is known why
	}
	return false, errors.New("the protection ended before it was complete; \"hostd events\" tells why")
}

// askOf has the role machine take an operator's event, and says why it is refused.
func (d *Daemon) askOf(ctx context.Context, g *guest, what string, e pair.Event) error {
	if err := g.ask(ctx, e); err != nil {
		return api.Refuse(api.NotNow, "%s machine %s: %v", what, g.name, err)
	}
	return nil
}

// protectedBy reports that the machine has that standby, or will in a moment.
func (g *guest) protectedBy(standby string) bool {
	role, _ := g.state.Role()
	return (role == pair.Protected || role == pair.Seeding) && g.state.Peer() == standby
}

func (d *Daemon) protectable(g *guest, standby string) error {
	switch role, _ := g.state.Role(); role {
	case pair.Unprotected, pair.Solo:
	default:
		return fmt.Errorf("machine %s is %s", g.name, role)
	}
	if standby == d.config.Host {
		return fmt.Errorf("host %s cannot be its own standby", standby)
	}
	if g.stopping.Load() != nil {
		return fmt.Errorf("machine %s is being stopped", g.name)
	}
	if g.ended() {
		return fmt.Errorf("QEMU of machine %s has ended; stop the machine and start it again", g.name)
	}
	if g.spec.Disk != nil && !g.spec.Disk.ReadOnly {
		return fmt.Errorf("machine %s has a writable disk, whose writes are not replicated yet; make it read-only or boot from kernel and initrd", g.name)
	}
	_, err := d.peerAddress(standby)
	return err
}

// Unprotect ends a protection; the machine runs on here alone.
func (d *Daemon) Unprotect(ctx context.Context, name string) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	if err := d.unprotect(ctx, g); err != nil {
		return v, api.Refuse(api.NotNow, "%v", err)
	}
	return g.view(), nil
}

func (d *Daemon) unprotect(ctx context.Context, g *guest) error {
	g.state.Ordered()
	wanted := g.state.Wanted()
	g.want("") // before it is asked: a standby that is asked for afterwards is not wanted
	if err := g.ask(ctx, pair.Unprotect{}); err != nil {
		if role, _ := g.state.Role(); role == pair.Solo && wanted != "" && ctx.Err() == nil {
			return nil // it only waited for a standby
		}
		g.want(wanted)
		return fmt.Errorf("unprotect machine %s: %w", g.name, err)
	}
	err := g.await(ctx, func(role pair.Role) (bool, error) {
		switch role {
		case pair.Unprotected, pair.Solo:
			return true, nil
		case pair.Fenced:
			return false, errors.New("another host has the voice")
		}
		return false, nil
	})
	if err == nil {
		g.saveSoon(ctx)
	}
	return err
}

// Switchover moves a protected machine to its standby, losing nothing.
func (d *Daemon) Switchover(ctx context.Context, name string) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	if err := g.fitsThere(); err != nil {
		return v, api.Refuse(api.NotNow, "switch over machine %s: %v; it stays here, protected, or move it all the same by \"hostd takeover %s\" there", g.name, err, g.name)
	}
	g.state.Ordered()
	failures := g.state.Failures()
	if err := d.askOf(ctx, g, "switch over", pair.SwitchoverAsked{}); err != nil {
		return v, err
	}
	return d.await(ctx, g, "switch over", func(role pair.Role) (bool, error) { return g.movedSince(role, failures) })
}

// movedSince tells what becomes of a switch-over that has begun.
func (g *guest) movedSince(role pair.Role, failures uint64) (bool, error) {
	if why := g.state.FailedSince(failures); why != "" {
		return false, errors.New(why)
	}
	switch role {
	case pair.Protected:
		return false, nil
	case pair.Fenced:
		if g.state.Report() == "machine-lost" {
			return false, errors.New("QEMU ended before the standby had the machine; it takes over what it holds")
		}
		return true, nil
	}
	return false, errors.New("the switch-over failed; the machine runs on here")
}

// Takeover makes a standby run the machine although its primary may live: the
// arbiter decides.
func (d *Daemon) Takeover(ctx context.Context, name string) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	g.state.Ordered()
	failures := g.state.Failures()
	if err := d.askOf(ctx, g, "take over", pair.TakeoverAsked{}); err != nil {
		return v, err
	}
	return d.await(ctx, g, "take over", func(role pair.Role) (bool, error) {
		switch role {
		case pair.Standby, pair.TakingOver:
			if why := g.state.FailedSince(failures); why != "" {
				return false, errors.New(why)
			}
			return false, nil
		case pair.Fenced:
			return false, errors.New("the arbiter gave the voice to another host, or QEMU failed, or the machine was stopped: it is fenced here")
		}
		return true, nil // solo, or protected again by now
	})
}
