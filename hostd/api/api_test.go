package api_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	. "github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// verbs notes what it is asked, and answers with a view, or an error.
type verbs struct {
	asked  []string
	view   status.View
	err    error
	events status.Events
}

func (v *verbs) ask(words ...string) (status.View, error) {
	v.asked = append(v.asked, strings.Join(words, " "))
	return v.view, v.err
}

func (v *verbs) StartMachine(_ context.Context, s spec.Machine) (status.View, error) {
	return v.ask("start", s.Name)
}
func (v *verbs) StopMachine(_ context.Context, name string) (status.View, error) {
	return v.ask("stop", name)
}
func (v *verbs) Protect(_ context.Context, name, standby string, wait bool) (status.View, error) {
	if wait {
		return v.ask("protect", name, standby, "wait")
	}
	return v.ask("protect", name, standby)
}
func (v *verbs) Unprotect(_ context.Context, name string) (status.View, error) {
	return v.ask("unprotect", name)
}
func (v *verbs) Switchover(_ context.Context, name string) (status.View, error) {
	return v.ask("switchover", name)
}
func (v *verbs) Takeover(_ context.Context, name string) (status.View, error) {
	return v.ask("takeover", name)
}
func (v *verbs) Scrub(_ context.Context, name string) (status.Scrub, error) {
	_, err := v.ask("scrub", name)
	return status.Scrub{Pages: 9, WrongPages: 1, ReplicaEpoch: 4, Damage: []status.Damage{{Block: "ram", Offset: 4096}}}, err
}
func (v *verbs) Status(name string) (status.Host, error) {
	m, err := v.ask("status", name)
	return status.Host{Name: "a", Version: "1", Goroutines: 7, Warnings: []string{"w"}, Machines: []status.View{m}}, err
}
func (v *verbs) Events() *status.Events { return &v.events }

// serve verbs on a socket, and connect to it.
func serve(t *testing.T, v *verbs) control.HostdClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, "a", v) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if _, err := Listen(path); err == nil {
		t.Error("two serve one socket")
	}
	return control.NewHostdClient(conn)
}

const minimal = `
name: m
memory: 64MiB
kernel: /k
initrd: /i
`

// TestEachVerb reaches the daemon with what it was given, and its answer the caller.
func TestEachVerb(t *testing.T) {
	v := &verbs{view: status.View{Name: "m", Snapshot: status.Snapshot{Role: pair.Solo}}}
	c, ctx := serve(t, v), t.Context()
	request := &control.MachineRequest{Name: "m"}
	for want, call := range map[string]func() (*control.Machine, error){
		"start m": func() (*control.Machine, error) {
			return c.StartMachine(ctx, &control.StartMachineRequest{Spec: []byte(minimal)})
		},
		"stop m": func() (*control.Machine, error) { return c.StopMachine(ctx, request) },
		"protect m b wait": func() (*control.Machine, error) {
			return c.Protect(ctx, &control.ProtectRequest{Name: "m", Standby: "b", Wait: true})
		},
		"protect m c": func() (*control.Machine, error) {
			return c.Protect(ctx, &control.ProtectRequest{Name: "m", Standby: "c"})
		},
		"unprotect m":  func() (*control.Machine, error) { return c.Unprotect(ctx, request) },
		"switchover m": func() (*control.Machine, error) { return c.Switchover(ctx, request) },
		"takeover m":   func() (*control.Machine, error) { return c.Takeover(ctx, request) },
	} {
		v.asked, v.err = nil, nil
		m, err := call()
		if err != nil || m.Name != "m" || m.Role != "solo" || !reflect.DeepEqual(v.asked, []string{want}) {
			t.Errorf("%s: %v, %v, asked %q", want, m, err, v.asked)
		}
		v.err = Refuse(NotNow, "machine %s is busy", "m")
		if _, err := call(); grpcstatus.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "machine m is busy") {
			t.Errorf("%s, refused: %v", want, err)
		}
	}
	v.err = nil
	if r, err := c.Scrub(ctx, request); err != nil || r.Name != "m" || r.Pages != 9 || r.WrongPages != 1 || r.ReplicaEpoch != 4 ||
		len(r.Damage) != 1 || r.Damage[0].Block != "ram" || r.Damage[0].Offset != 4096 {
		t.Error(r, err)
	}
	if r, err := c.Status(ctx, &control.StatusRequest{Name: "m"}); err != nil || r.Host != "a" || r.Version != "1" || r.Goroutines != 7 ||
		len(r.Warnings) != 1 || len(r.Machines) != 1 {
		t.Error(r, err)
	}
	if r, err := c.ListMachines(ctx, &control.ListMachinesRequest{}); err != nil || len(r.Machines) != 1 {
		t.Error(r, err)
	}
	v.err = errors.New("broken")
	for name, call := range map[string]func() error{
		"scrub":  func() error { _, err := c.Scrub(ctx, request); return err },
		"status": func() error { _, err := c.Status(ctx, &control.StatusRequest{}); return err },
		"list":   func() error { _, err := c.ListMachines(ctx, &control.ListMachinesRequest{}); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestABadSpecification does not reach the daemon.
func TestABadSpecification(t *testing.T) {
	v := &verbs{}
	_, err := serve(t, v).StartMachine(t.Context(), &control.StartMachineRequest{File: "nat.yaml", Spec: []byte("memry: 1")})
	if grpcstatus.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "nat.yaml") || len(v.asked) > 0 {
		t.Error(err, v.asked)
	}
}

// fill every field of a struct with something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	default:
		v.Set(reflect.ValueOf(5_000_000_000).Convert(v.Type()))
	}
}

// empty are the fields of a message, and of those in it, that are zero.
func empty(path string, v reflect.Value) (names []string) {
	for i := range v.NumField() {
		field, f := v.Type().Field(i), v.Field(i)
		if !field.IsExported() {
			continue
		}
		name := path + field.Name
		if f.IsZero() {
			names = append(names, name)
		} else if f.Kind() == reflect.Pointer && f.Elem().Kind() == reflect.Struct {
			names = append(names, empty(name+".", f.Elem())...)
		}
	}
	return names
}

// TestEveryFieldIsTold: what is in a message is filled from what the daemon knows.
func TestEveryFieldIsTold(t *testing.T) {
	v := &verbs{}
	fill(reflect.ValueOf(&v.view).Elem())
	v.view.Name = "m"
	c := serve(t, v)
	m, err := c.Takeover(t.Context(), &control.MachineRequest{Name: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if names := empty("", reflect.ValueOf(m).Elem()); len(names) > 0 {
		t.Errorf("nothing tells %q", names)
	}
	if m.PauseUs.P50 != 5_000_000 || m.UptimeSeconds != 5 {
		t.Errorf("durations are %v", m)
	}
	var e status.Event
	fill(reflect.ValueOf(&e).Elem())
	v.events.Publish(status.Event{Kind: status.Running, Machine: "other"})
	v.events.Publish(status.Event{Kind: status.Running, Machine: e.Machine})
	stream, err := c.Events(t.Context(), &control.EventsRequest{Name: e.Machine, Checkpoints: true})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || first.Kind != "running" || first.Machine != e.Machine {
		t.Fatal(first, err)
	}
	v.events.Publish(e)
	told, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	names := empty("", reflect.ValueOf(told).Elem())
	if len(names) > 0 {
		t.Errorf("nothing tells %q of an event", names)
	}
}

// TestCheckpointsAreToldOnRequest only.
func TestCheckpointsAreToldOnRequest(t *testing.T) {
	v := &verbs{}
	stream, err := serve(t, v).Events(t.Context(), &control.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	v.events.Publish(status.Event{Kind: status.Running, Message: "first"}) // remembered, so that it is told whenever the stream begins
	if e, err := stream.Recv(); err != nil || e.Message != "first" {
		t.Fatal(e, err)
	}
	v.events.Publish(status.Event{Kind: status.Committed, Checkpoint: &status.Checkpoint{}})
	v.events.Publish(status.Event{Kind: status.Running, Message: "second"})
	if e, err := stream.Recv(); err != nil || e.Message != "second" {
		t.Fatal(e, err)
	}
}

// TestListenWhereItCannot says on what.
func TestListenWhereItCannot(t *testing.T) {
	if _, err := Listen(filepath.Join(t.TempDir(), "none", "s")); err == nil {
		t.Error("it listens in a directory that is not there")
	}
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close() // a stale socket
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
