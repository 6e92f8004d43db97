package standby

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
	"github.com/stillpoint-ft/stillpoint/e2e/loopback"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/pack"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const memory = 16 * replica.PageSize

// wires are a gate that notes what is done with frames.
type wires struct {
	mu       sync.Mutex
	calls    []string
	learned  []gate.Address
	links    []gate.Link
	injected []string
	resent   []string
}

func (w *wires) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *wires) Learn(all []gate.Address) { w.with(func() { w.learned = all }) }
func (w *wires) Hold()                    { w.with(func() { w.calls = append(w.calls, "hold") }) }
func (w *wires) HoldInput()               { w.with(func() { w.calls = append(w.calls, "hold input") }) }
func (w *wires) OpenInput()               { w.with(func() { w.calls = append(w.calls, "open input") }) }
func (w *wires) Inject(f gate.Frame) {
	w.with(func() { w.injected = append(w.injected, string(f.Data)) })
}
func (w *wires) Resend(f gate.Frame) { w.with(func() { w.resent = append(w.resent, string(f.Data)) }) }

func (w *wires) Links() (all []gate.Link) {
	w.with(func() { all = slices.Clone(w.links) })
	return all
}

// pairing is a standby, and the primary's end of the link.
type pairing struct {
	t      *testing.T
	s      *Session
	l      *link.Link // the primary's end
	gate   *wires
	qemu   *falseqemu.Within
	state  *status.Machine
	events chan pair.Event
	told   chan status.Event
	labels chan string
	sums   *replica.Sums
	packer *pack.Packer
}

func newPairing(t *testing.T, g falseqemu.Guest) *pairing {
	t.Helper()
	x := &pairing{t: t, gate: &wires{}, state: status.NewMachine(pair.Standby), events: make(chan pair.Event, 100),
		told: make(chan status.Event, 100), labels: make(chan string, 100), packer: pack.New(nil)}
	x.qemu = falseqemu.Begin(t, g, memory, true)
	a, b := loopback.Pair(t)
	o := link.Options{Heartbeat: 50 * time.Millisecond, Limit: time.Minute, Log: hclog.NewNullLogger()}
	x.l = link.New(a, o)
	there := link.New(b, o)
	var err error
	x.s, err = New(t.Context(), Options{Machine: spec.Machine{Name: "m", Protection: spec.Protection{InputLog: spec.InputSync}},
		Link: there, InputLog: 1000,
		Replica: store.Options{RAMFile: x.qemu.RAMFile(), RAMBlock: machine.RAMBlock, RAMSize: memory, Device: 1 << 20, Private: 1 << 20, Output: 1 << 20},
		Gate:    x.gate, QEMU: x.qemu, State: x.state,
		Post: func(ctx context.Context, e pair.Event) {
			select {
			case x.events <- e:
			case <-ctx.Done():
			}
		},
		Publish: func(e status.Event) { x.told <- e },
		Faults:  func(label string, _ uint64) { x.labels <- label },
		Log:     hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	x.s.Begin()
	t.Cleanup(func() {
		x.l.Close(context.Canceled)
		x.s.Stop()
	})
	return x
}

func (x *pairing) send(t replica.Type, epoch uint64, payload []byte) {
	x.t.Helper()
	if err := x.l.Send(replica.Header{Type: t, Epoch: epoch}, payload); err != nil {
		x.t.Fatal(err)
	}
}

// receive what the standby says, of a type.
func (x *pairing) receive(want replica.Type) (replica.Header, []byte) {
	x.t.Helper()
	h, payload, err := x.l.Receive()
	if err != nil || h.Type != want {
		x.t.Fatalf("%v, %v, want %v", h, err, want)
	}
	return h, bytes.Clone(payload)
}

func (x *pairing) next() pair.Event {
	x.t.Helper()
	select {
	case e := <-x.events:
		return e
	case <-time.After(time.Minute):
		x.t.Fatal("nothing happens")
	}
	return nil
}

// seed sends the first copy: of one page.
func (x *pairing) seed() {
	x.t.Helper()
	blocks := []replica.Block{{Name: machine.RAMBlock, Size: memory}}
	x.sums = replica.NewSums(blocks)
	x.send(replica.TypeBlocks, 0, replica.Blocks{MachineName: "pc-i440fx-10.0", RAM: replica.Section{ID: 2, Version: 4}, Blocks: blocks}.Append(nil))
	var b replica.PageBatch
	page := bytes.Repeat([]byte{1}, replica.PageSize)
	if err := errors.Join(b.Page(0, 0, page), x.sums.Set(0, 0, replica.PageSum(0, 0, page))); err != nil {
		x.t.Fatal(err)
	}
	x.send(replica.TypePages, 0, bytes.Join(b.Parts(), nil))
}

// epoch of one page, a device's state and a frame of output.
func (x *pairing) epoch(n uint64) {
	x.t.Helper()
	x.begin(n)
	x.end(n)
}

// device state begins as QEMU's does, with a whole section.
var device = append([]byte{4}, make([]byte, 63)...)

func totals(output uint32) replica.EpochBegin {
	return replica.EpochBegin{Pages: 1, Device: uint32(len(device)), Output: output}
}

func (x *pairing) begin(n uint64) {
	x.t.Helper()
	page := bytes.Repeat([]byte{byte(n)}, replica.PageSize)
	x.packer.Reset()
	if err := errors.Join(x.packer.Page(0, replica.PageSize, page), x.sums.Set(0, replica.PageSize, replica.PageSum(0, replica.PageSize, page))); err != nil {
		x.t.Fatal(err)
	}
	var out replica.OutputBatch
	if err := out.Frame(0, []byte("said in the epoch")); err != nil {
		x.t.Fatal(err)
	}
	x.send(replica.TypeEpochBegin, n, totals(1).Append(nil))
	x.send(replica.TypePacked, n, bytes.Join(x.packer.Batch().Parts(), nil))
	x.send(replica.TypeDevice, n, device)
	x.send(replica.TypeOutput, n, out.Payload())
}

func (x *pairing) end(n uint64) {
	x.t.Helper()
	x.send(replica.TypeDigest, n, replica.Digest{Memory: x.sums.Total(), Device: replica.DeviceSum(device)}.Append(nil))
	x.send(replica.TypeEpochEnd, n, replica.EpochEnd(totals(1)).Append(nil))
}

// store an epoch, acknowledge it, and see it applied.
func (x *pairing) store(n uint64) {
	x.t.Helper()
	x.epoch(n)
	x.acknowledge(n)
}

func (x *pairing) acknowledge(n uint64) {
	x.t.Helper()
	if e, ok := x.next().(pair.EpochStored); !ok || e.Epoch != n {
		x.t.Fatalf("%#v", e)
	}
	x.s.Acknowledge(n, 3)
	if h, _ := x.receive(replica.TypeAck); h.Epoch != n || h.Generation != 3 {
		x.t.Fatalf("%+v", h)
	}
	for _, want := range []string{fault.Storing, fault.Applying, fault.Applied} {
		if got := <-x.labels; got != want {
			x.t.Fatalf("at %s, want %s", got, want)
		}
	}
}

func TestEpochsAreStored(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.seed()
	x.store(1)
	x.store(2)
	if x.s.Applied() != 2 || x.state.ReplicaEpoch() != 2 {
		t.Errorf("applied %d, shown %d", x.s.Applied(), x.state.ReplicaEpoch())
	}
	ram, err := os.ReadFile(x.qemu.RAMFile())
	if err != nil || ram[0] != 1 || ram[replica.PageSize] != 2 || ram[2*replica.PageSize] != 0 {
		t.Error("the replica is another", err)
	}
	x.epoch(3) // not acknowledged
	if e, ok := x.next().(pair.EpochStored); !ok || e.Epoch != 3 {
		t.Fatalf("%#v", e)
	}
	x.s.Farewell("its daemon ends")
	if _, payload := x.receive(replica.TypeBye); !strings.Contains(string(payload), "its daemon ends") {
		t.Errorf("%q", payload)
	}
	x.s.Stop()
	if x.s.Applied() != 2 {
		t.Error("an epoch is applied that was not acknowledged")
	}
}

// TestWhatBreaksTheProtocol ends the pair, says why, and touches no epoch.
func TestWhatBreaksTheProtocol(t *testing.T) {
	garbage := []byte{0xff}
	for name, breaks := range map[string]func(*pairing){
		"blocks":              func(x *pairing) { x.send(replica.TypeBlocks, 0, garbage) },
		"blocks again":        func(x *pairing) { x.send(replica.TypeBlocks, 0, replica.Blocks{MachineName: "pc"}.Append(nil)) },
		"pages":               func(x *pairing) { x.send(replica.TypePages, 0, garbage) },
		"pages of an epoch":   func(x *pairing) { x.send(replica.TypePacked, 2, garbage) },
		"an epoch's begin":    func(x *pairing) { x.send(replica.TypeEpochBegin, 2, garbage) },
		"a digest":            func(x *pairing) { x.send(replica.TypeDigest, 2, garbage) },
		"an epoch's end":      func(x *pairing) { x.begin(2); x.send(replica.TypeEpochEnd, 2, garbage) },
		"other totals":        func(x *pairing) { x.begin(2); x.send(replica.TypeEpochEnd, 2, replica.EpochEnd(totals(7)).Append(nil)) },
		"input":               func(x *pairing) { x.send(replica.TypeInputLog, 0, garbage) },
		"an input's cut":      func(x *pairing) { x.send(replica.TypeInputCut, 2, garbage) },
		"addresses":           func(x *pairing) { x.send(replica.TypeAddresses, 0, garbage) },
		"what a standby says": func(x *pairing) { x.send(replica.TypeAck, 2, nil) },
		"device state":        func(x *pairing) { x.send(replica.TypePackedDevice, 2, garbage) },
		"output":              func(x *pairing) { x.send(replica.TypeOutput, 2, garbage) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, falseqemu.Guest{Series: 10})
			x.seed()
			x.store(1)
			breaks(x)
			_, payload := x.receive(replica.TypeReject)
			if r, err := replica.DecodeReject(payload); err != nil || r.Code != replica.RejectProtocol || r.Reason == "" {
				t.Errorf("%+v, %v", r, err)
			}
			if e, ok := x.next().(pair.LinkLost); !ok {
				t.Errorf("%#v", e)
			}
			if x.s.Applied() != 1 {
				t.Errorf("epoch %d is applied", x.s.Applied())
			}
		})
	}
}

// TestADigestThatDiffers drops the replica, and the primary hears of it.
func TestADigestThatDiffers(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.seed()
	x.begin(1)
	x.send(replica.TypeDigest, 1, replica.Digest{Memory: x.sums.Total() + 1, Device: replica.DeviceSum(device)}.Append(nil))
	x.send(replica.TypeEpochEnd, 1, replica.EpochEnd(totals(1)).Append(nil))
	_, payload := x.receive(replica.TypeReject)
	if r, err := replica.DecodeReject(payload); err != nil || r.Code != replica.RejectReplica {
		t.Errorf("%+v, %v", r, err)
	}
	if e, ok := x.next().(pair.StandbyDropped); !ok || !e.Here {
		t.Errorf("%#v", e)
	}
	if e := <-x.told; e.Kind != status.ReplicaDamaged {
		t.Errorf("%+v", e)
	}
}

// TestWhatThePrimarySaysOfThePair reaches the role machine.
func TestWhatThePrimarySaysOfThePair(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(*pairing)
		want pair.Event
	}{
		"a role": {func(x *pairing) {
			_ = x.l.Send(replica.Header{Type: replica.TypeRole, Generation: 7}, replica.Role{Generation: 7, Role: "standby"}.Append(nil))
		}, pair.RoleGranted{Generation: 7}},
		"its machine ended": {func(x *pairing) {
			x.send(replica.TypeMachineLost, 0, replica.MachineLost{Reason: "QEMU ended"}.Append(nil))
		}, pair.PeerMachineLost{Why: "QEMU ended"}},
		"a hand-over": {func(x *pairing) { x.send(replica.TypeHandOver, 4, nil) }, pair.HandedOver{Epoch: 4}},
		"a good-bye": {func(x *pairing) {
			x.send(replica.TypeBye, 0, replica.Bye{Reason: "unprotected"}.Append(nil))
		}, pair.StandbyDropped{Why: "unprotected"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, falseqemu.Guest{Series: 10})
			c.say(x)
			if e := x.next(); e != c.want {
				t.Errorf("%#v, want %#v", e, c.want)
			}
		})
	}
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.l.Close(errors.New("the host died"))
	if e, ok := x.next().(pair.LinkLost); !ok {
		t.Errorf("%#v", e)
	}
}

func TestAddressesAreLearned(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.send(replica.TypeAddresses, 0, replica.Addresses{List: []replica.Address{{Port: 1, MAC: [6]byte{2}}}}.Append(nil))
	x.send(replica.TypeRole, 0, replica.Role{Generation: 1}.Append(nil)) // after it
	x.next()
	if all := x.gate.learned; len(all) != 1 || all[0].Port != 1 || all[0].MAC != [6]byte{2} {
		t.Errorf("%+v", all)
	}
}

// input logs frames from a number on.
func (x *pairing) input(first uint64, frames ...string) {
	x.t.Helper()
	var b replica.OutputBatch
	for _, f := range frames {
		if err := b.Frame(0, []byte(f)); err != nil {
			x.t.Fatal(err)
		}
	}
	x.send(replica.TypeInputLog, 0, slices.Concat(replica.AppendInputLogHead(nil, first), b.Payload()))
}

func (x *pairing) stored(want uint64) {
	x.t.Helper()
	_, payload := x.receive(replica.TypeInputStored)
	if m, err := replica.DecodeInputStored(payload); err != nil || m.Number != want {
		x.t.Errorf("%+v, %v", m, err)
	}
}

// TestATakeover runs the last committed epoch, sends again what may not have left, and hands
// in what had arrived since: what was logged, what the old primary passes on, and nothing
// twice.
func TestATakeover(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.seed()
	x.input(1, "one")
	x.stored(1)
	x.begin(1)
	x.send(replica.TypeInputCut, 1, replica.InputCut{Upto: 1, Tails: []uint32{0}}.Append(nil))
	x.end(1)
	x.acknowledge(1)
	x.input(2, "two")
	x.stored(2)
	x.send(replica.TypeHandOver, 1, nil)
	x.next()
	if err := x.qemu.Monitor().MigrateIncoming(t.Context(), x.qemu.IncomingURI()); err != nil {
		t.Fatal(err)
	}
	x.s.ExpectTakeover()
	if err := x.s.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-x.labels; got != fault.TakingOver {
		t.Errorf("at %s", got)
	}
	if err := x.s.Resend(); err != nil || !slices.Equal(x.gate.resent, []string{"said in the epoch"}) {
		t.Errorf("%q, %v", x.gate.resent, err)
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		x.s.Finish(t.Context(), time.Minute)
	}()
	x.input(2, "two", "three")
	x.send(replica.TypeReleased, 1, nil) // says nothing any more
	x.send(replica.TypeInputEnd, 0, nil)
	x.input(4, "late")
	x.l.Close(context.Canceled)
	<-finished
	if !slices.Equal(x.gate.injected, []string{"two", "three", "late"}) {
		t.Errorf("handed in: %q", x.gate.injected)
	}
	if !slices.Equal(x.gate.calls, []string{"hold", "hold input", "open input"}) || x.state.Snapshot().Replayed != 3 {
		t.Errorf("%q, %+v", x.gate.calls, x.state.Snapshot())
	}
}

// TestWhatHasLeftIsNotSentAgain.
func TestWhatHasLeftIsNotSentAgain(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.seed()
	x.store(1)
	x.send(replica.TypeReleased, 1, nil)
	x.send(replica.TypeHandOver, 1, nil)
	x.next()
	if err := x.s.Resend(); err != nil || len(x.gate.resent) > 0 {
		t.Errorf("%q, %v", x.gate.resent, err)
	}
}

// TestATakeoverThatFails tells why.
func TestATakeoverThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		guest  falseqemu.Guest
		limit  time.Duration
		listen bool
		why    string
	}{
		"QEMU ends":         {falseqemu.Guest{Fault: falseqemu.FailsTakeover, Series: 10}, time.Minute, true, "QEMU ended"},
		"QEMU sleeps on":    {falseqemu.Guest{Fault: falseqemu.SleepsOn, Series: 10}, 100 * time.Millisecond, true, "does not run the machine"},
		"QEMU is not there": {falseqemu.Guest{Series: 10}, time.Minute, false, "connect to the waiting QEMU"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, c.guest)
			x.seed()
			x.store(1)
			if c.listen {
				if err := x.qemu.Monitor().MigrateIncoming(t.Context(), x.qemu.IncomingURI()); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			x.s.ExpectTakeover()
			if err := x.s.TakeOver(ctx); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v, want %q", err, c.why)
			}
		})
	}
}

// TestTheLogIsBounded: frames that an epoch contains, and the guest may not have read, make
// room; of the others none is lost, and more than is agreed ends the pair.
func TestTheLogIsBounded(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.seed()
	long := strings.Repeat("x", 1000)
	for n := range uint64(3) {
		x.input(n+1, long)
		x.stored(n + 1)
	}
	x.begin(1)
	x.send(replica.TypeInputCut, 1, replica.InputCut{Upto: 3, Tails: []uint32{99}}.Append(nil))
	x.end(1)
	x.acknowledge(1)
	for n := uint64(4); n < 8; n++ {
		x.input(n, long)
		x.stored(n)
	}
	x.input(8, long)
	_, payload := x.receive(replica.TypeReject)
	if r, err := replica.DecodeReject(payload); err != nil || !strings.Contains(r.Reason, "input log") {
		t.Errorf("%+v, %v", r, err)
	}
	x.next()
	if x.s.input.Forgotten() != 3 {
		t.Errorf("%d frames are forgotten", x.s.input.Forgotten())
	}
}

func TestScrub(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.seed()
	x.store(1)
	found, err := x.s.Scrub(t.Context())
	if err != nil || found.WrongPages != 0 || found.ReplicaEpoch != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if e := <-x.told; e.Kind != status.Scrubbed {
		t.Errorf("%+v", e)
	}
	f, err := os.OpenFile(x.qemu.RAMFile(), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{99}, 0)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if found, err = x.s.Scrub(t.Context()); err != nil || found.WrongPages != 1 || len(found.Damage) != 1 || found.Damage[0].Offset != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if e, ok := x.next().(pair.StandbyDropped); !ok || !e.Here || !strings.Contains(e.Why, "scrub: 1 of") {
		t.Errorf("%#v", e)
	}
	if s := x.state.Snapshot().Scrubs; s.Runs != 2 || s.WrongPages != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPortsAreTold(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Series: 10})
	x.gate.links = []gate.Link{{Port: "in", Name: "up", State: "up"}, {Port: "in", Name: "tap", Tap: true, State: "up"}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		x.s.TellPorts()
	}()
	for _, want := range []string{"up", "no carrier"} {
		_, payload := x.receive(replica.TypePorts)
		if ports, err := replica.DecodePorts(payload); err != nil || len(ports) != 1 || ports[0].Uplink.State != want || ports[0].Tap.State != "up" {
			t.Errorf("%+v, %v", ports, err)
		}
		x.gate.with(func() { x.gate.links[0].State = "no carrier" })
		x.s.LinkChanged()
		x.s.LinkChanged() // is told once, or twice
	}
	x.l.Close(context.Canceled)
	<-ended
	if x.s.Link() == nil {
		t.Error("it has no link")
	}
}

// TestNoReplicaWithoutMemory.
func TestNoReplicaWithoutMemory(t *testing.T) {
	if _, err := New(t.Context(), Options{Replica: store.Options{RAMFile: t.TempDir() + "/none"}, Log: hclog.NewNullLogger()}); err == nil {
		t.Error("there is none")
	}
}
