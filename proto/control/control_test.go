package control

import (
	"context"
	"encoding/hex"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// messages has one of each kind that carries anything, all fields set.
func messages() map[string]proto.Message {
	quantiles := &Quantiles{P50: 1600, P95: 8500, Max: 20000}
	machine := &Machine{Name: "nat", Role: "protected", Peer: "b", Generation: 3, QemuPid: 4242, Accel: "tcg", QemuVersion: "10.0.13",
		Agent: "connected", CheckpointPolicy: "demand", OutputPolicy: "hold", Quiescence: "quiesced", Epoch: 17, Checkpoints: 16,
		PauseUs: quantiles, QuiesceUs: quantiles, CommitUs: quantiles, DirtyPages: 230, BytesShipped: 1 << 20,
		Output: &Output{HeldFrames: 1, HeldBytes: 2, Released: 3, Dropped: 4, Resent: 5}, Input: &Input{Held: 1, Delivered: 2, Dropped: 3},
		Warnings: []string{"one", "two"}, UptimeSeconds: 90, ReplicaEpoch: 16, Console: "/c"}
	return map[string]proto.Message{
		"machine": machine,
		"status":  &StatusReply{Host: "a", Version: "1", Machines: []*Machine{machine}, Warnings: []string{"three"}},
		"start":   &StartMachineRequest{Spec: []byte("name: nat\n"), File: "nat.yaml"},
		"protect": &ProtectRequest{Name: "nat", Standby: "b", Wait: true},
		"events":  &EventsRequest{Name: "nat", Checkpoints: true},
		"event": &Event{TimeUnixNanos: 1 << 60, Host: "a", Machine: "nat", Kind: "checkpoint", Message: "m", Role: "protected", Epoch: 17, Generation: 3,
			Checkpoint: &Checkpoint{Epoch: 17, StartedUnixNanos: 1 << 60, QuiesceUs: 1, StopUs: 2, CopyUs: 3, PauseUs: 4, TotalUs: 5, CommitUs: 6,
				Pages: 7, ZeroPages: 8, Bytes: 9, DeviceBytes: 10, Quiesced: true, Forced: true, OutputFrames: 11}},
	}
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden guards the numbers of the fields: a daemon and a command line of
// different versions must understand each other.
func TestGolden(t *testing.T) {
	for name, m := range messages() {
		file := filepath.Join("testdata", name+".hex")
		got := hex.EncodeToString(encode(t, m)) + "\n"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

// TestTruncated cuts at every byte. A cut between two fields is a shorter
// message, never the whole one.
func TestTruncated(t *testing.T) {
	for name, m := range messages() {
		b := encode(t, m)
		for n := range b {
			short := m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(b[:n], short); err == nil && proto.Equal(short, m) {
				t.Errorf("%s: %d of %d bytes make the whole message", name, n, len(b))
			}
		}
	}
}

type server struct{ UnimplementedHostdServer }

func (server) StartMachine(_ context.Context, r *StartMachineRequest) (*Machine, error) {
	return &Machine{Console: strings.Repeat("c", len(r.Spec))}, nil
}

// TestMaxMessage sends messages just below and above the limit, each way.
func TestMaxMessage(t *testing.T) {
	const framing = 64 // more than the field's own bytes
	for _, c := range []struct {
		name       string
		size       int
		send, take int
		want       codes.Code
	}{
		{"below", MaxMessage - framing, MaxMessage, MaxMessage, codes.OK},
		{"request above", MaxMessage + 1, 2 * MaxMessage, 2 * MaxMessage, codes.ResourceExhausted},
		{"reply above", MaxMessage - framing, MaxMessage, MaxMessage / 2, codes.ResourceExhausted},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := connect(t, grpc.MaxCallSendMsgSize(c.send), grpc.MaxCallRecvMsgSize(c.take))
			_, err := client.StartMachine(t.Context(), &StartMachineRequest{Spec: make([]byte, c.size)})
			if status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func connect(t *testing.T, o ...grpc.CallOption) HostdClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage))
	RegisterHostdServer(s, server{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(o...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Stop()
		<-done
	})
	return NewHostdClient(conn)
}

// FuzzUnmarshal decodes, encodes and decodes again.
func FuzzUnmarshal(f *testing.F) {
	kinds := []proto.Message{&StatusReply{}, &Event{}, &StartMachineRequest{}}
	for _, m := range messages() {
		f.Add(encode(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > MaxMessage {
			return
		}
		for _, kind := range kinds {
			once := kind.ProtoReflect().New().Interface()
			if proto.Unmarshal(b, once) != nil {
				continue
			}
			twice := kind.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(encode(t, once), twice); err != nil || !proto.Equal(once, twice) {
				t.Fatalf("%v\n%v\n%v", err, once, twice)
			}
		}
	})
}
