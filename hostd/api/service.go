package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// New answers the control service for the daemon of a host, without a connection.
func New(host string, d Daemon) control.HostdServer { return &service{host: host, d: d} }

type service struct {
	control.UnimplementedHostdServer
	host string
	d    Daemon
}

func (s *service) StartMachine(ctx context.Context, r *control.StartMachineRequest) (*control.Machine, error) {
	m, err := spec.Parse(r.File, r.Spec)
	if err != nil {
		return nil, Refuse(BadInput, "%v", err)
	}
	return machineOr(s.d.StartMachine(ctx, m))
}

func (s *service) StopMachine(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return machineOr(s.d.StopMachine(ctx, r.Name))
}

func (s *service) Protect(ctx context.Context, r *control.ProtectRequest) (*control.Machine, error) {
	return machineOr(s.d.Protect(ctx, r.Name, r.Standby, r.Wait))
}

func (s *service) Unprotect(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return machineOr(s.d.Unprotect(ctx, r.Name))
}

func (s *service) Switchover(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return machineOr(s.d.Switchover(ctx, r.Name))
}

func (s *service) Takeover(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return machineOr(s.d.Takeover(ctx, r.Name))
}

func (s *service) ListMachines(context.Context, *control.ListMachinesRequest) (*control.ListMachinesReply, error) {
	h, err := s.d.Status("")
	if err != nil {
		return nil, err
	}
	return &control.ListMachinesReply{Machines: machines(h.Machines)}, nil
}

func (s *service) Status(_ context.Context, r *control.StatusRequest) (*control.StatusReply, error) {
	h, err := s.d.Status(r.Name)
	if err != nil {
		return nil, err
	}
	return &control.StatusReply{Host: h.Name, Version: h.Version, Machines: machines(h.Machines),
		Goroutines: uint32(h.Goroutines), Warnings: h.Warnings}, nil
}

func (s *service) Scrub(ctx context.Context, r *control.MachineRequest) (*control.ScrubReply, error) {
	found, err := s.d.Scrub(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	reply := &control.ScrubReply{Name: r.Name, Pages: found.Pages, WrongPages: found.WrongPages, ReplicaEpoch: found.ReplicaEpoch}
	for _, d := range found.Damage {
		reply.Damage = append(reply.Damage, &control.Damage{Block: d.Block, Offset: d.Offset})
	}
	return reply, nil
}

// Events streams what is remembered and then what happens.
func (s *service) Events(r *control.EventsRequest, stream grpc.ServerStreamingServer[control.Event]) error {
	past, next, cancel := s.d.Events().Subscribe()
	defer cancel()
	send := func(e *status.Event) error {
		if r.Name != "" && r.Name != e.Machine || e.Checkpoint != nil && !r.Checkpoints {
			return nil
		}
		return stream.Send(event(s.host, e))
	}
	for _, e := range past {
		if err := send(e); err != nil {
			return err
		}
	}
	for {
		select {
		case e := <-next:
			if err := send(e); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}
