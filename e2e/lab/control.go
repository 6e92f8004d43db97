package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// session is the connection to one run of a daemon.
type session struct {
	conn   *grpc.ClientConn
	client control.HostdClient
	cancel context.CancelFunc
	owned  sync.WaitGroup
}

func (h *Host) dial() (*session, error) {
	conn, err := grpc.NewClient("unix:"+h.Socket(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, client: control.NewHostdClient(conn)}, nil
}

// attach replaces the session by one to the daemon that now runs, and begins
// to collect its events.
func (h *Host) attach(ctx context.Context) error {
	s, err := h.dial()
	if err != nil {
		return err
	}
	if _, err := s.client.Status(ctx, &control.StatusRequest{}, grpc.WaitForReady(true)); err != nil {
		return errors.Join(fmt.Errorf("ask for its status: %w", err), s.conn.Close())
	}
	collecting, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.owned.Go(func() { h.events.collect(collecting, s.client, !h.lab.options.FewEvents) })
	h.replace(s)
	return nil
}

// detach ends the session, if there is one.
func (h *Host) detach() { h.replace(nil) }

func (h *Host) replace(s *session) {
	h.sessionMu.Lock()
	old := h.session
	h.session = s
	h.sessionMu.Unlock()
	if old != nil {
		old.cancel()
		old.conn.Close()
		old.owned.Wait()
	}
}

// API is the client of the daemon's control API.
func (h *Host) API() (control.HostdClient, error) {
	h.sessionMu.Lock()
	defer h.sessionMu.Unlock()
	if h.session == nil {
		return nil, fmt.Errorf("hostd on host %s has not been started", h.Name)
	}
	return h.session.client, nil
}

// StartMachine starts a machine on this host.
func (h *Host) StartMachine(ctx context.Context, m Machine) (*control.Machine, error) {
	spec, err := m.YAML()
	if err != nil {
		return nil, err
	}
	return h.StartSpec(ctx, m.Name+".yaml", spec)
}

// StartSpec starts the machine of a specification in YAML; file is its name
// in error messages.
func (h *Host) StartSpec(ctx context.Context, file string, spec []byte) (*control.Machine, error) {
	return ask(h, "start machine of "+file, func(c control.HostdClient) (*control.Machine, error) {
		return c.StartMachine(ctx, &control.StartMachineRequest{Spec: spec, File: file})
	})
}

// StopMachine ends a machine.
func (h *Host) StopMachine(ctx context.Context, name string) (*control.Machine, error) {
	return ask(h, "stop machine "+name, func(c control.HostdClient) (*control.Machine, error) {
		return c.StopMachine(ctx, &control.MachineRequest{Name: name})
	})
}

// Protect a machine by a standby host and wait until it is protected.
func (h *Host) Protect(ctx context.Context, name, standby string) (*control.Machine, error) {
	return ask(h, "protect machine "+name, func(c control.HostdClient) (*control.Machine, error) {
		return c.Protect(ctx, &control.ProtectRequest{Name: name, Standby: standby, Wait: true})
	})
}

// Unprotect a machine.
func (h *Host) Unprotect(ctx context.Context, name string) (*control.Machine, error) {
	return ask(h, "unprotect machine "+name, func(c control.HostdClient) (*control.Machine, error) {
		return c.Unprotect(ctx, &control.MachineRequest{Name: name})
	})
}

// Switchover moves a protected machine from this host to its standby.
func (h *Host) Switchover(ctx context.Context, name string) (*control.Machine, error) {
	return ask(h, "switch over machine "+name, func(c control.HostdClient) (*control.Machine, error) {
		return c.Switchover(ctx, &control.MachineRequest{Name: name})
	})
}

// Takeover makes this standby run the machine.
func (h *Host) Takeover(ctx context.Context, name string) (*control.Machine, error) {
	return ask(h, "take over machine "+name, func(c control.HostdClient) (*control.Machine, error) {
		return c.Takeover(ctx, &control.MachineRequest{Name: name})
	})
}

// Status of the daemon and all its machines.
func (h *Host) Status(ctx context.Context) (*control.StatusReply, error) {
	return ask(h, "ask for the status", func(c control.HostdClient) (*control.StatusReply, error) {
		return c.Status(ctx, &control.StatusRequest{})
	})
}

// Machine is the status of one machine; nil if the host does not know it.
func (h *Host) Machine(ctx context.Context, name string) (*control.Machine, error) {
	status, err := h.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range status.Machines {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, nil
}

// WaitRole waits until a machine has one of some roles on this host.
func (h *Host) WaitRole(ctx context.Context, machine string, roles ...string) (*control.Machine, error) {
	return h.WaitMachine(ctx, machine, fmt.Sprintf("role %q", roles), func(m *control.Machine) bool {
		return slices.Contains(roles, m.Role)
	})
}

// WaitMachine waits until the status of a machine is as wanted. It looks
// again at every event, and every now and then. What names the wish in the
// error.
func (h *Host) WaitMachine(ctx context.Context, machine, what string, wanted func(*control.Machine) bool) (*control.Machine, error) {
	const look = 50 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		event := h.events.changed()
		m, err := h.Machine(ctx, machine)
		if err == nil && m != nil && wanted(m) {
			return m, nil
		}
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		select {
		case <-event:
		case <-tick.C:
		case <-ctx.Done():
			return nil, h.explain(fmt.Errorf("wait for machine %s on host %s to have %s: %w; it is %v",
				machine, h.Name, what, ctx.Err(), m))
		}
	}
}

// ask the daemon, and let an error say what the host logged.
func ask[T any](h *Host, what string, call func(control.HostdClient) (T, error)) (reply T, err error) {
	client, err := h.API()
	if err != nil {
		return reply, err
	}
	if reply, err = call(client); err != nil {
		return reply, h.explain(fmt.Errorf("host %s: %s: %w", h.Name, what, err))
	}
	return reply, nil
}
