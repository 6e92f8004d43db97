package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// listenControl opens the unix socket of the API, for the daemon's user only.
func listenControl(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another hostd serves %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	return l, os.Chmod(path, 0o600)
}

// serveRemote answers commands from other hosts: whoever has a certificate of
// the authority may give them.
func (d *Daemon) serveRemote(ctx context.Context, l net.Listener) {
	if err := d.serveCommands(ctx, l, grpc.Creds(pki.AlreadySecure())); err != nil {
		d.log.Error("no more remote commands are accepted", "error", err)
	}
}

func (d *Daemon) serveControl(ctx context.Context, l net.Listener) error {
	return d.serveCommands(ctx, l)
}

func (d *Daemon) serveCommands(ctx context.Context, l net.Listener, more ...grpc.ServerOption) error {
	server := grpc.NewServer(append(more, grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(control.MaxMessage), grpc.MaxSendMsgSize(control.MaxMessage))...)
	control.RegisterHostdServer(server, d.API())
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	err := server.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// API answers the control service without a connection.
func (d *Daemon) API() control.HostdServer { return &api{d: d} }

// api answers the control service. Each call is short or waits for a role.
type api struct {
	control.UnimplementedHostdServer
	d *Daemon
}

func (a *api) StartMachine(ctx context.Context, r *control.StartMachineRequest) (*control.Machine, error) {
	s, err := spec.Parse(r.File, r.Spec)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	release, err := a.d.reserveFor(ctx, s.Name)
	if err != nil {
		return nil, status.Error(codes.Aborted, err.Error())
	}
	defer release()
	a.d.awaitEndOfStandby(ctx, s.Name)
	a.d.awaitRetired(ctx, s.Name)
	old := a.d.find(s.Name)
	if old != nil && old.earlier == nil {
		return nil, status.Errorf(codes.AlreadyExists, "machine %s exists on host %s; stop it first", s.Name, a.d.config.Host)
	}
	var g *guest
	if old != nil {
		if g, err = a.d.startLeft(old, s); err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	if g == nil {
		g, err = a.d.startGuest(ctx, s)
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return g.status(), nil
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
	g.board.setRole(string(pair.Unprotected), grant.Generation)
	if err := g.bringUp(ctx, false); err != nil {
		// A caller who has gone, for whom the start failed, leaves no voice behind.
		return nil, errors.Join(err, d.voices.GiveUp(context.WithoutCancel(ctx), s.Name, grant.Generation))
	}
	if version, err := g.qemu.Monitor().QueryVersion(ctx); err == nil {
		g.board.setQEMU(version.String())
	}
	g.live(grant, false)
	g.publish(&control.Event{Kind: "started", Message: fmt.Sprintf("QEMU runs with process id %d", g.qemu.Pid())})
	return g, nil
}

func (a *api) StopMachine(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	if _, err := a.guest(r.Name); err != nil {
		return nil, err
	}
	release, err := a.d.reserveFor(ctx, r.Name)
	if err != nil {
		return nil, status.Error(codes.Aborted, err.Error())
	}
	g, err := a.guest(r.Name)
	if err != nil { // it may have been adopted, or removed, meanwhile
		release()
		return nil, err
	}
	m := g.status()
	if err := a.stop(ctx, g, release); err != nil {
		return nil, err
	}
	m.QemuPid = 0
	return m, nil
}

func (a *api) stop(ctx context.Context, g *guest, release func()) error {
	if g.earlier == nil {
		return a.d.stopGuest(ctx, g, release)
	}
	defer release()
	if err := a.d.stopLeft(ctx, g); err != nil {
		return status.Error(codes.Unavailable, err.Error())
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
			return status.Error(codes.FailedPrecondition, err.Error())
		}
		return nil
	case why := <-s.waits:
		d.keepStopping(g, s, release)
		return status.Errorf(codes.Unavailable, "stop machine %s: %s; the machine is silent from now on, and is ended as soon as the arbiter answers: vm list tells", g.name, why)
	case <-g.ctx.Done(): // with its replica, or with the daemon
		defer release()
		return d.finishEnded(g)
	case <-ctx.Done():
		d.keepStopping(g, s, release)
		return status.Errorf(codes.Canceled, "stop machine %s: %v; the machine is silent from now on, and is ended as soon as the arbiter answers: vm list tells", g.name, context.Cause(ctx))
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
		return status.Errorf(codes.Unavailable, "the daemon ends; machine %s is silent, and the next daemon takes care of it", g.name)
	}
	return d.finishStop(g, pair.Stopped{})
}

func (a *api) ListMachines(context.Context, *control.ListMachinesRequest) (*control.ListMachinesReply, error) {
	return &control.ListMachinesReply{Machines: a.d.machines("")}, nil
}

func (a *api) Status(_ context.Context, r *control.StatusRequest) (*control.StatusReply, error) {
	if r.Name != "" {
		if _, err := a.guest(r.Name); err != nil {
			return nil, err
		}
	}
	return &control.StatusReply{Host: a.d.config.Host, Version: a.d.version, Machines: a.d.machines(r.Name),
		Goroutines: uint32(runtime.NumGoroutine()), Warnings: a.d.hostWarnings()}, nil
}

func (a *api) guest(name string) (*guest, error) {
	if g := a.d.find(name); g != nil {
		return g, nil
	}
	var known []string
	for _, g := range a.d.list() {
		known = append(known, g.name)
	}
	if len(known) == 0 {
		known = []string{"none"}
	}
	return nil, status.Errorf(codes.NotFound, "machine %q is not on host %s; machines here: %s", name, a.d.config.Host, strings.Join(known, ", "))
}

// running is a machine that this daemon looks after.
func (a *api) running(name string) (*guest, error) {
	g, err := a.guest(name)
	if err == nil && g.earlier != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "machine %s was left by an earlier daemon and waits to be adopted; \"hostd status %s\" tells why", name, name)
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

func (d *Daemon) machines(name string) []*control.Machine {
	var all []*control.Machine
	for _, g := range d.list() {
		if name == "" || g.name == name {
			all = append(all, g.status())
		}
	}
	return all
}

// Events streams what is remembered and then what happens.
func (a *api) Events(r *control.EventsRequest, stream grpc.ServerStreamingServer[control.Event]) error {
	past, next, cancel := a.d.events.subscribe()
	defer cancel()
	for _, e := range past {
		if err := sendEvent(r, stream, e); err != nil {
			return err
		}
	}
	for {
		select {
		case e := <-next:
			if err := sendEvent(r, stream, e); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func sendEvent(r *control.EventsRequest, stream grpc.ServerStreamingServer[control.Event], e *control.Event) error {
	if r.Name != "" && r.Name != e.Machine || e.Checkpoint != nil && !r.Checkpoints {
		return nil
	}
	return stream.Send(e)
}

// await waits for a role on behalf of a call.
func (a *api) await(ctx context.Context, g *guest, what string, settled func(role string) (bool, error)) (*control.Machine, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Hour, fmt.Errorf("%s took more than an hour", what))
	defer cancel()
	if err := g.await(ctx, settled); err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%s machine %s: %v", what, g.name, err)
	}
	return g.status(), nil
}
