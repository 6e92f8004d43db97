package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// playDaemon stands in for hostd: it reads the configuration, runs a QEMU if
// told so, and passes through the steps of checkpoints.
func playDaemon() {
	args := strings.Join(os.Args[1:], " ")
	path, ok := strings.CutPrefix(args, "serve --config ")
	if !ok {
		fail(fmt.Errorf("arguments %q", args))
	}
	b, err := os.ReadFile(path)
	fail(err)
	var c Config
	fail(yaml.UnmarshalWithOptions(b, &c, yaml.Strict()))
	_, err = net.Listen("tcp", c.Listen) // works in the right namespace only
	fail(err)
	if os.Getenv("FAKE_END") != "" {
		fail(errors.New("no arbiter, no life"))
	}
	fmt.Println("fake daemon of host", c.Host)
	if machine := os.Getenv("FAKE_MACHINE"); machine != "" {
		fail(startQEMU(machine))
	}
	if socket := os.Getenv("STILLPOINT_FAULT_SOCKET"); socket != "" {
		go playSteps(socket)
	}
	serveFake(c)
}

func playSteps(socket string) {
	conn, err := net.Dial("unix", socket)
	fail(err)
	for epoch := 1; ; epoch++ {
		for _, op := range strings.Split(os.Getenv("STILLPOINT_FAULT_OPS"), ",") {
			fmt.Fprintf(conn, "%s %d\n", op, epoch)
			if _, err := conn.Read(make([]byte, 8)); err != nil {
				waitForever()
			}
		}
	}
}

// playMaker makes a lab with a daemon and a machine and waits for its death.
func playMaker() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := New(ctx, Options{ID: "orphan", Dir: os.Getenv("MAKER_DIR"), HostdBinary: os.Args[0], Hosts: 1})
	fail(err)
	fail(l.Hosts[0].Start(ctx, role+"=daemon", "FAKE_MACHINE=nat"))
	fmt.Println(l.Name)
	waitForever()
}

// fakeAPI has one machine, which is protected once somebody asks for it.
type fakeAPI struct {
	control.UnimplementedHostdServer
	host   string
	events chan *control.Event

	mu      sync.Mutex
	machine *control.Machine
}

func serveFake(c Config) {
	listener, err := net.Listen("unix", c.ControlSocket)
	fail(err)
	server := grpc.NewServer()
	control.RegisterHostdServer(server, &fakeAPI{host: c.Host, events: make(chan *control.Event, 10)})
	fail(server.Serve(listener))
}

func (f *fakeAPI) Status(context.Context, *control.StatusRequest) (*control.StatusReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &control.StatusReply{Host: f.host}
	if f.machine != nil {
		r.Machines = append(r.Machines, &control.Machine{Name: f.machine.Name, Role: f.machine.Role})
	}
	return r, nil
}

func (f *fakeAPI) StartMachine(_ context.Context, r *control.StartMachineRequest) (*control.Machine, error) {
	var m Machine
	if err := yaml.UnmarshalWithOptions(r.Spec, &m, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", r.File, err)
	}
	return f.set(m.Name, "unprotected"), nil
}

func (f *fakeAPI) Protect(_ context.Context, r *control.ProtectRequest) (*control.Machine, error) {
	return f.set(r.Name, "protected"), nil
}

func (f *fakeAPI) set(name, role string) *control.Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machine = &control.Machine{Name: name, Role: role}
	f.events <- &control.Event{Host: f.host, Machine: name, Kind: role, Role: role}
	return f.machine
}

func (f *fakeAPI) Events(_ *control.EventsRequest, stream grpc.ServerStreamingServer[control.Event]) error {
	for {
		select {
		case e := <-f.events:
			if err := stream.Send(e); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}
