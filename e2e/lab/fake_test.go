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

	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// playDaemon stands in for hostd: it reads the configuration, runs a QEMU and
// a supervisor if told so, and passes through the steps of checkpoints.
func playDaemon() {
	verb, args, _ := strings.Cut(strings.Join(os.Args[1:], " "), " ")
	path, ok := strings.CutPrefix(args, "--config ")
	switch {
	case ok && verb == "serve":
		playHost(path)
	case ok && verb == "witness":
		playWitness(path)
	default:
		fail(fmt.Errorf("arguments %q", os.Args[1:]))
	}
}

func load(path string, config any) {
	b, err := os.ReadFile(path)
	fail(err)
	fail(yaml.Load(b, config, yaml.WithKnownFields()))
}

func playHost(path string) {
	var c Config
	load(path, &c)
	_, err := net.Listen("tcp", c.Listen) // works in the right namespace only
	fail(err)
	if os.Getenv("FAKE_END") != "" {
		fail(errors.New("no arbiter, no life"))
	}
	fmt.Println("fake daemon of host", c.Host)
	if machine := os.Getenv("FAKE_MACHINE"); machine != "" {
		fail(startQEMU(machine))
	}
	if os.Getenv("FAKE_SUPERVISOR") != "" {
		fail(startSupervisor())
	}
	if socket := os.Getenv("STILLPOINT_FAULT_SOCKET"); socket != "" {
		go playSteps(socket)
	}
	if e := c.Arbiter.Embedded; e != nil {
		playMember(e)
	}
	serveFake(c)
}

func playWitness(path string) {
	var c WitnessConfig
	load(path, &c)
	fmt.Println("fake witness", c.Host)
	playMember(c.Arbiter.Embedded)
	waitForever()
}

// playMember waits until more than half of the arbiter's members listen.
func playMember(e *Embedded) {
	if e.Peer != "" {
		listener, err := net.Listen("tcp", e.Peer)
		fail(err)
		go func() {
			for {
				conn, err := listener.Accept()
				fail(err)
				conn.Close()
			}
		}()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for reached(e.Cluster) <= len(e.Cluster)/2 {
		<-tick.C
	}
}

func reached(members []Member) (n int) {
	for _, m := range members {
		conn, err := net.DialTimeout("tcp", m.Peer, 100*time.Millisecond)
		if err == nil {
			conn.Close()
			n++
		}
	}
	return n
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
	l, err := New(ctx, Options{ID: "orphan", Dir: os.Getenv("MAKER_DIR"), HostdBinary: os.Args[0], Hosts: 1,
		Arbiter: ArbiterEtcd, StateSize: testStateSize})
	fail(err)
	fail(l.Start(ctx, role+"=daemon", "FAKE_MACHINE=nat", "FAKE_SUPERVISOR=1"))
	fail(l.Hosts[0].StopQEMU("nat")) // what is frozen must go, too
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
	if err := yaml.Load(r.Spec, &m, yaml.WithKnownFields()); err != nil {
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
