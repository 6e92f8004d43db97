package standby

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// inputLogSlack is how much more of the input log a standby keeps than its own
// limit says: the primary's limit bounds it, and hosts may differ a little.
const inputLogSlack = 4

// Gate is what a standby needs of the wires.
type Gate interface {
	Learn([]gate.Address)
	Links() []gate.Link
	// Hold output, HoldInput and OpenInput, Inject and Resend are a takeover's.
	Hold()
	HoldInput()
	OpenInput()
	Inject(gate.Frame)
	Resend(gate.Frame)
}

// QEMU is what a standby needs of the one that waits for a takeover.
type QEMU interface {
	Monitor() *qmp.Client
	DialIncoming(ctx context.Context) (net.Conn, error)
	Exited() <-chan struct{}
	Reason() error
}

// Options of a Session.
type Options struct {
	Machine spec.Machine
	Link    *link.Link // to the primary, which has said hello
	Replica store.Options
	// InputLog bounds the primary's log of arriving frames, in bytes.
	InputLog uint64
	Gate     Gate
	QEMU     QEMU
	State    *status.Machine
	// Post hands an event to the role machine; it gives up when the context ends.
	Post    func(context.Context, pair.Event)
	Publish func(status.Event)
	Faults  fault.Hook
	Log     hclog.Logger
}

// Session of a standby with a primary. Its methods may be called by one at a time, but for
// those that say otherwise.
type Session struct {
	o        Options
	link     *link.Link
	replica  *store.Replica
	log      hclog.Logger
	ctx      context.Context
	end      context.CancelFunc
	received chan struct{} // closed when the receiving goroutine has ended
	ran      chan struct{} // closed when a takeover has run the replica, or not; nil without one
	acked    chan uint64
	// released is the last epoch whose output has left the primary. The
	// receiving goroutine owns it until it has ended.
	released uint64
	// input is the log of what arrived since the last commit; the same
	// goroutine's, and the takeover's after it.
	input *store.InputLog
	// stored is the last answer to it; the receiving goroutine's.
	stored  []byte
	links   chan struct{} // one has changed
	useless atomic.Bool   // the replica is damaged, and its end is under way
	// announced is what the open epoch consists of; the same goroutine's.
	announced replica.EpochBegin
}

// New keeps a replica, and does nothing before Begin.
func New(ctx context.Context, o Options) (*Session, error) {
	r, err := store.New(o.Replica)
	if err != nil {
		return nil, err
	}
	s := &Session{o: o, link: o.Link, replica: r, log: o.Log, acked: make(chan uint64, 1), received: make(chan struct{}), links: make(chan struct{}, 1),
		input: store.NewInputLog(inputLogSlack * o.InputLog)}
	s.ctx, s.end = context.WithCancel(ctx)
	return s, nil
}

// Link to the primary.
func (s *Session) Link() *link.Link { return s.link }

// Applied is the last epoch that is applied: a takeover goes on from it.
func (s *Session) Applied() uint64 { return s.replica.Applied() }

// Begin starts the receiving goroutine, which Stop, or a takeover, ends and waits for.
func (s *Session) Begin() {
	go func() {
		defer close(s.received)
		s.receive()
	}()
}

// receive runs until the link ends or the primary says that its part is over.
func (s *Session) receive() {
	for {
		h, payload, err := s.link.Receive()
		if err != nil {
			if !s.useless.Load() { // else the end has its own event
				s.post(pair.LinkLost{Why: err.Error()})
			}
			return
		}
		ended, err := s.handle(h, payload)
		if err != nil {
			s.refuse(err)
			return
		}
		if ended {
			return
		}
	}
}

// post gives up when the standby's part ends: who ends it waits for the receiving goroutine
// then, and takes no events.
func (s *Session) post(e pair.Event) { s.o.Post(s.ctx, e) }

// refuse what has come. If the fault may be this host's, the primary goes on alone and
// protects the machine anew: it must not lose it to a replica that is of no use.
func (s *Session) refuse(err error) {
	if !errors.Is(err, store.ErrDigest) && !errors.Is(err, store.ErrLost) {
		s.reject(err)
		s.post(pair.LinkLost{Why: err.Error()})
		return
	}
	s.giveUp(err)
}

// giveUp a replica that is damaged.
func (s *Session) giveUp(err error) {
	if s.useless.Swap(true) {
		return
	}
	s.log.Error("the replica is of no use; the protection begins anew", "peer", s.link.Peer(), "error", err)
	s.o.Publish(status.Event{Kind: status.ReplicaDamaged, Message: err.Error()})
	s.link.Reject(replica.RejectReplica, err)
	s.post(pair.StandbyDropped{Why: err.Error(), Here: true})
}

// reject tells the primary why its data is refused, and ends the link.
func (s *Session) reject(err error) {
	s.log.Error("primary broke the protocol; the last committed epoch is untouched", "peer", s.link.Peer(), "error", err)
	s.link.Reject(replica.RejectProtocol, err)
}

func (s *Session) handle(h replica.Header, payload []byte) (ended bool, err error) {
	switch h.Type {
	case replica.TypeBlocks:
		return false, s.blocks(payload)
	case replica.TypePages:
		return false, s.replica.Seed(payload)
	case replica.TypePacked:
		return false, s.replica.Packed(payload)
	case replica.TypeEpochBegin:
		return false, s.beginEpoch(h, payload)
	case replica.TypeDevice:
		return false, s.replica.Device(payload)
	case replica.TypePackedDevice:
		return false, s.replica.PackedDevice(payload)
	case replica.TypeOutput:
		return false, s.replica.Output(payload)
	case replica.TypeDigest:
		return false, s.digest(payload)
	case replica.TypeEpochEnd:
		return false, s.endEpoch(h, payload)
	case replica.TypeInputLog:
		return false, s.logInput(payload)
	case replica.TypeInputCut:
		return false, s.cutInput(h, payload)
	case replica.TypeReleased:
		s.released = h.Epoch
		return false, nil
	}
	return s.handleRole(h, payload)
}

// handleRole takes what the primary says about the pair itself.
func (s *Session) handleRole(h replica.Header, payload []byte) (ended bool, err error) {
	switch h.Type {
	case replica.TypeAddresses:
		return false, s.learn(payload)
	case replica.TypeRole:
		r, err := replica.DecodeRole(payload)
		s.post(pair.RoleGranted{Generation: r.Generation})
		return false, err
	case replica.TypeMachineLost:
		m, err := replica.DecodeMachineLost(payload)
		s.post(pair.PeerMachineLost{Why: m.Reason})
		return true, err
	case replica.TypeHandOver:
		s.post(pair.HandedOver{Epoch: h.Epoch})
		return true, nil
	case replica.TypeBye:
		b, err := replica.DecodeBye(payload)
		s.post(pair.StandbyDropped{Why: b.Reason})
		return true, err
	}
	return false, fmt.Errorf("the primary sent %v, which only a standby sends", h.Type)
}

func (s *Session) blocks(payload []byte) error {
	b, err := replica.DecodeBlocks(payload)
	if err != nil {
		return err
	}
	return s.replica.SetBlocks(b)
}

func (s *Session) beginEpoch(h replica.Header, payload []byte) error {
	b, err := replica.DecodeEpochBegin(payload)
	if err != nil {
		return err
	}
	s.announced = b
	return s.replica.Begin(h.Epoch, b)
}

func (s *Session) digest(payload []byte) error {
	d, err := replica.DecodeDigest(payload)
	if err != nil {
		return err
	}
	return s.replica.Digest(d)
}

// endEpoch commits the epoch if the primary sent what it had announced. The
// replica checks that this arrived.
func (s *Session) endEpoch(h replica.Header, payload []byte) error {
	e, err := replica.DecodeEpochEnd(payload)
	if err != nil {
		return err
	}
	if replica.EpochBegin(e) != s.announced {
		return fmt.Errorf("epoch %d ends with other totals than it began with", h.Epoch)
	}
	return s.commit(h.Epoch)
}

// commit holds the epoch whole, has it acknowledged, and applies it. Where the
// role machine does not acknowledge any more, a takeover applies it.
func (s *Session) commit(epoch uint64) error {
	if err := s.replica.End(epoch); err != nil {
		return err
	}
	s.o.Faults(fault.Storing, epoch)
	s.post(pair.EpochStored{Epoch: epoch})
	select {
	case <-s.acked:
	case <-s.ctx.Done():
		return nil
	}
	s.o.Faults(fault.Applying, epoch)
	s.o.State.Stored(epoch)
	if err := s.replica.Apply(); err != nil {
		return err
	}
	s.input.Commit(epoch)
	s.o.Faults(fault.Applied, epoch)
	return nil
}

func (s *Session) learn(payload []byte) error {
	list, err := replica.DecodeAddresses(payload)
	if err != nil {
		return err
	}
	var known []gate.Address
	for _, a := range list.List {
		known = append(known, gate.Address{Port: int(a.Port), Addr: a.IP, MAC: a.MAC, Router: gate.Router(a.Router), Tags: a.Tags})
	}
	s.o.Gate.Learn(known)
	return nil
}

// Acknowledge commits an epoch: from here the primary may release its output.
func (s *Session) Acknowledge(epoch, generation uint64) {
	s.link.Send(replica.Header{Type: replica.TypeAck, Epoch: epoch, Generation: generation})
	select {
	case s.acked <- epoch:
	default:
	}
}

// endReceiving stops the receiving goroutine and waits for it. The link stays
// open if the primary's part was over already.
func (s *Session) endReceiving() {
	s.end()
	select {
	case <-s.received:
		return
	default:
	}
	s.link.Close(context.Canceled)
	<-s.received
}

// Stop ends the session and waits for it.
func (s *Session) Stop() {
	s.endReceiving()
	s.link.Close(context.Canceled)
	if s.ran != nil {
		<-s.ran // a takeover reads and writes the replica
	}
	s.close()
}

// Farewell tells the primary that this standby leaves, and why.
func (s *Session) Farewell(why string) {
	_ = s.link.Send(replica.Header{Type: replica.TypeBye}, replica.Bye{Reason: why}.Append(nil)) // the end of the link says it too
}

func (s *Session) close() {
	if err := s.replica.Close(); err != nil {
		s.log.Warn("replica not closed", "error", err)
	}
}
