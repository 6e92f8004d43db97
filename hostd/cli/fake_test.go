package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// fake is a daemon that knows one machine. It writes down what it is asked.
type fake struct {
	control.UnimplementedHostdServer
	asked []string // read after the call has returned
}

func machine(role string) *control.Machine {
	q := &control.Quantiles{P50: 1600, P95: 8500, Max: 20000}
	return &control.Machine{Name: "nat", Role: role, Peer: "b", Generation: 3, QemuPid: 4242, Accel: "tcg", QemuVersion: "10.0.13",
		Agent: "connected", CheckpointPolicy: "demand", OutputPolicy: "hold", Quiescence: "quiesced", Epoch: 17, Checkpoints: 16,
		PauseUs: q, QuiesceUs: q, CommitUs: q, DirtyPages: 230, DirtyBytes: 12 << 20, BytesShipped: 3 << 20,
		Output: &control.Output{HeldFrames: 1, HeldBytes: 1500, Released: 900, Dropped: 0, Resent: 2},
		Input:  &control.Input{Held: 4, Delivered: 1000, Dropped: 5, Late: 3, Logged: 990, Replayed: 7}, InputLog: "sync", Warnings: []string{"mind this"}, UptimeSeconds: 90, ReplicaEpoch: 16, Console: "/var/log/nat"}
}

func (f *fake) answer(role, format string, args ...any) (*control.Machine, error) {
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return machine(role), nil
}

func (f *fake) named(role, verb, name string) (*control.Machine, error) {
	if name != "nat" {
		return nil, status.Errorf(codes.NotFound, "machine %q is not on host a; machines here: nat", name)
	}
	return f.answer(role, "%s %s", verb, name)
}

func (f *fake) StartMachine(_ context.Context, r *control.StartMachineRequest) (*control.Machine, error) {
	if strings.Contains(string(r.Spec), "bad") {
		return nil, status.Error(codes.InvalidArgument, r.File+":1: name: no\n"+r.File+":2: cpus: no")
	}
	return f.answer("unprotected", "start %s %q", filepath.Base(r.File), r.Spec)
}

func (f *fake) StopMachine(_ context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return f.named("unprotected", "stop", r.Name)
}

func (f *fake) Protect(_ context.Context, r *control.ProtectRequest) (*control.Machine, error) {
	return f.named("protected", fmt.Sprintf("protect by %s, wait %v:", r.Standby, r.Wait), r.Name)
}

func (f *fake) Unprotect(_ context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return f.named("solo", "unprotect", r.Name)
}

func (f *fake) Switchover(_ context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return f.named("fenced", "switchover", r.Name)
}

func (f *fake) Takeover(_ context.Context, r *control.MachineRequest) (*control.Machine, error) {
	return f.named("solo", "takeover", r.Name)
}

func (f *fake) Scrub(_ context.Context, r *control.MachineRequest) (*control.ScrubReply, error) {
	f.asked = append(f.asked, "scrub "+r.Name)
	reply := &control.ScrubReply{Name: r.Name, Pages: 65600, ReplicaEpoch: 16}
	if r.Name == "bad" {
		reply.WrongPages, reply.Damage = 2, []*control.Damage{{Block: "ram0", Offset: 4096}}
	}
	return reply, nil
}

func (f *fake) ListMachines(context.Context, *control.ListMachinesRequest) (*control.ListMachinesReply, error) {
	standby := machine("standby")
	standby.Name, standby.QemuPid = "router", 0
	return &control.ListMachinesReply{Machines: []*control.Machine{machine("protected"), standby}}, nil
}

func (f *fake) Status(_ context.Context, r *control.StatusRequest) (*control.StatusReply, error) {
	if r.Name != "" && r.Name != "nat" {
		return nil, status.Errorf(codes.NotFound, "machine %q is not on host a; machines here: nat", r.Name)
	}
	return &control.StatusReply{Host: "a", Version: "1.2.3", Machines: []*control.Machine{machine("protected")},
		Warnings: []string{"the arbiter's member on this host is down: its process ended"}}, nil
}

const second = int64(1e9)

func (f *fake) Events(r *control.EventsRequest, s grpc.ServerStreamingServer[control.Event]) error {
	f.asked = append(f.asked, fmt.Sprintf("events %q, checkpoints %v", r.Name, r.Checkpoints))
	e := &control.Event{TimeUnixNanos: 1700000000 * second, Host: "a", Machine: "nat", Kind: "protected", Message: "the pair is protected",
		Role: "protected", Epoch: 1, Generation: 3}
	if err := s.Send(e); err != nil || !r.Checkpoints {
		return err
	}
	return s.Send(&control.Event{TimeUnixNanos: 1700000001 * second, Host: "a", Machine: "nat", Kind: "checkpoint", Epoch: 2,
		Checkpoint: &control.Checkpoint{Epoch: 2, PauseUs: 1600, QuiesceUs: 300, CommitUs: 900, Pages: 230, Quiesced: true, OutputFrames: 7}})
}

// serveFake returns the fake's socket.
func serveFake(t *testing.T, h control.HostdServer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	control.RegisterHostdServer(s, h)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		// A command that needs no daemon may end before Serve has begun.
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return path
}

type result struct {
	code     int
	out, err string
}

func run(t *testing.T, socket string, args ...string) result {
	t.Helper()
	return runAt(t, time.Now, socket, args...)
}

// runAt runs it by another clock.
func runAt(t *testing.T, now func() time.Time, socket string, args ...string) result {
	t.Helper()
	t.Setenv("STILLPOINT_SOCKET", socket)
	var out, errs bytes.Buffer
	code := Run(t.Context(), args, Options{Version: "1.2.3", Stdout: &out, Stderr: &errs, Now: now})
	return result{code, out.String(), errs.String()}
}
