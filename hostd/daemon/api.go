package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// serveRemote answers commands from other hosts: whoever has a certificate of
// the authority may give them.
func (d *Daemon) serveRemote(ctx context.Context, l net.Listener) {
	if err := api.Serve(ctx, l, d.config.Host, d, grpc.Creds(pki.AlreadySecure())); err != nil {
		d.log.Error("no more remote commands are accepted", "error", err)
	}
}

// API answers the control service without a connection.
func (d *Daemon) API() control.HostdServer { return api.New(d.config.Host, d) }

// Events of this host.
func (d *Daemon) Events() *status.Events { return &d.events }

// StartMachine boots a machine here, or goes on with one of an earlier daemon.
func (d *Daemon) StartMachine(ctx context.Context, s spec.Machine) (v status.View, err error) {
	release, err := d.reserveFor(ctx, s.Name)
	if err != nil {
		return v, api.Refuse(api.Busy, "%v", err)
	}
	defer release()
	d.awaitEndOfStandby(ctx, s.Name)
	d.awaitRetired(ctx, s.Name)
	old := d.find(s.Name)
	if old != nil && old.earlier == nil {
		return v, api.Refuse(api.Exists, "machine %s exists on host %s; stop it first", s.Name, d.config.Host)
	}
	var g *guest
	if old != nil {
		if g, err = d.startLeft(old, s); err != nil {
			return v, api.Refuse(api.NotNow, "%v", err)
		}
	}
	if g == nil {
		g, err = d.startGuest(ctx, s)
	}
	if err != nil {
		return v, api.Refuse(api.Failed, "%v", err)
	}
	return g.view(), nil
}

// startGuest boots a machine here. The voice is claimed first: a machine that
// another host speaks for must not get a second one, and a standby of its past
// must not take it over.
func (d *Daemon) startGuest(ctx context.Context, s spec.Machine) (*guest, error) {
	grant, err := d.voices.Start(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	g := d.newGuest(s)
	g.state.SetRole(pair.Unprotected, grant.Generation)
	if err := g.bringUp(ctx, false); err != nil {
		// A caller who has gone, for whom the start failed, leaves no voice behind.
		return nil, errors.Join(err, d.voices.GiveUp(context.WithoutCancel(ctx), s.Name, grant.Generation))
	}
	if version, err := g.qemu.Monitor().QueryVersion(ctx); err == nil {
		g.state.SetQEMU(version.String())
	}
	g.live(grant, false)
	g.publish(status.Event{Kind: status.Started, Message: fmt.Sprintf("QEMU runs with process id %d", g.qemu.Pid())})
	return g, nil
}

// StopMachine ends a machine here, for good.
func (d *Daemon) StopMachine(ctx context.Context, name string) (v status.View, err error) {
	if _, err := d.known(name); err != nil {
		return v, err
	}
	release, err := d.reserveFor(ctx, name)
	if err != nil {
		return v, api.Refuse(api.Busy, "%v", err)
	}
	g, err := d.known(name)
	if err != nil { // it may have been adopted, or removed, meanwhile
		release()
		return v, err
	}
	v = g.view()
	v.PID = 0
	return v, d.stop(ctx, g, release)
}

func (d *Daemon) stop(ctx context.Context, g *guest, release func()) error {
	if g.earlier == nil {
		return d.stopGuest(ctx, g, release)
	}
	defer release()
	if err := d.stopLeft(ctx, g); err != nil {
		return api.Refuse(api.Undecided, "%v", err)
	}
	return nil
}

// stopGuest ends a machine for good, and releases its name. It answers before that
// where the arbiter does not: the machine is silent then, and ends later.
func (d *Daemon) stopGuest(ctx context.Context, g *guest, release func()) error {
	if g.ctx.Err() != nil { // so has an earlier stop, which nobody waits for any more
		defer release()
		return d.finishEnded(g)
	}
	s := g.stop()
	select {
	case outcome := <-s.done:
		defer release()
		if err := d.finishStop(g, outcome); err != nil {
			return api.Refuse(api.NotNow, "%v", err)
		}
		return nil
	case why := <-s.waits:
		d.keepStopping(g, s, release)
		return api.Refuse(api.Undecided, "stop machine %s: %s; the machine is silent from now on, and is ended as soon as the arbiter answers: vm list tells", g.name, why)
	case <-g.ctx.Done(): // with its replica, or with the daemon
		defer release()
		return d.finishEnded(g)
	case <-ctx.Done():
		d.keepStopping(g, s, release)
		return api.Refuse(api.CallerWent, "stop machine %s: %v; the machine is silent from now on, and is ended as soon as the arbiter answers: vm list tells", g.name, context.Cause(ctx))
	}
}

// keepStopping waits for what becomes of a stop whose caller has gone.
func (d *Daemon) keepStopping(g *guest, s *stop, release func()) {
	going := d.tasks.Go(func() {
		defer release()
		var err error
		select {
		case outcome := <-s.done:
			err = d.finishStop(g, outcome)
		case <-g.ctx.Done():
			err = d.finishEnded(g)
		}
		if err != nil {
			g.log.Warn("machine not stopped as asked", "error", err)
		}
	})
	if !going {
		release()
	}
}

// finishEnded is finishStop for a guest that has ended by itself. One that ends
// with the daemon is left to the next.
func (d *Daemon) finishEnded(g *guest) error {
	if d.ctx.Err() != nil {
		return api.Refuse(api.Undecided, "the daemon ends; machine %s is silent, and the next daemon takes care of it", g.name)
	}
	return d.finishStop(g, pair.Stopped{})
}

// Status of this host, and of one machine, or of all if the name is empty.
func (d *Daemon) Status(name string) (status.Host, error) {
	h := status.Host{Name: d.config.Host, Version: d.version, Goroutines: runtime.NumGoroutine()}
	if name != "" {
		if _, err := d.known(name); err != nil {
			return h, err
		}
	}
	for _, g := range d.list() {
		if name == "" || g.name == name {
			h.Machines = append(h.Machines, g.view())
		}
	}
	h.Warnings = d.hostWarnings()
	return h, nil
}

// known is a machine on this host.
func (d *Daemon) known(name string) (*guest, error) {
	if g := d.find(name); g != nil {
		return g, nil
	}
	var known []string
	for _, g := range d.list() {
		known = append(known, g.name)
	}
	if len(known) == 0 {
		known = []string{"none"}
	}
	return nil, api.Refuse(api.Unknown, "machine %q is not on host %s; machines here: %s", name, d.config.Host, strings.Join(known, ", "))
}

// running is a machine that this daemon looks after.
func (d *Daemon) running(name string) (*guest, error) {
	g, err := d.known(name)
	if err == nil && g.earlier != nil {
		return nil, api.Refuse(api.NotNow, "machine %s was left by an earlier daemon and waits to be adopted; \"hostd status %s\" tells why", name, name)
	}
	return g, err
}

func (d *Daemon) list() []*guest {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*guest
	for _, g := range d.guests {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *guest) int { return strings.Compare(a.name, b.name) })
	return all
}

// await a role on behalf of a call.
func (d *Daemon) await(ctx context.Context, g *guest, what string, settled func(role pair.Role) (bool, error)) (v status.View, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Hour, fmt.Errorf("%s took more than an hour", what))
	defer cancel()
	if err := g.await(ctx, settled); err != nil {
		return v, api.Refuse(api.NotNow, "%s machine %s: %v", what, g.name, err)
	}
	return g.view(), nil
}
