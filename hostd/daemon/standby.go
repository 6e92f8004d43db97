package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// inputLogSlack is how much more of the input log a standby keeps than its own
// limit says: the primary's limit bounds it, and hosts may differ a little.
const inputLogSlack = 4

// standby is the standby's side of a pair: it receives epochs, keeps the
// replica and answers the primary.
type standby struct {
	g        *guest
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

func (g *guest) makeStandby(l *link.Link, primary string) error {
	r, err := store.New(g.d.replicaOptions(g.spec, g.qemu.RAMFile()))
	if err != nil {
		return err
	}
	s := &standby{g: g, link: l, replica: r, log: g.log.Named("standby"), acked: make(chan uint64, 1), received: make(chan struct{}), links: make(chan struct{}, 1),
		input: store.NewInputLog(inputLogSlack * uint64(g.d.config.Limits.InputLog))}
	s.ctx, s.end = context.WithCancel(g.ctx)
	g.standby = s
	g.asStandby.Store(s)
	g.state.SetPeer(primary)
	return nil
}

// begin starts the receiving goroutine, which endReceiving ends and waits for.
func (s *standby) begin() {
	go func() {
		defer close(s.received)
		s.receive()
	}()
}

// receive runs until the link ends or the primary says that its part is over.
func (s *standby) receive() {
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

// post gives up when the standby's part ends: the run loop, which waits for
// the receiving goroutine then, takes no events.
func (s *standby) post(e pair.Event) {
	select {
	case s.g.events <- e:
	case <-s.ctx.Done():
	}
}

// refuse what has come. If the fault may be this host's, the primary goes on alone and
// protects the machine anew: it must not lose it to a replica that is of no use.
func (s *standby) refuse(err error) {
	if !errors.Is(err, store.ErrDigest) && !errors.Is(err, store.ErrLost) {
		s.reject(err)
		s.post(pair.LinkLost{Why: err.Error()})
		return
	}
	s.giveUp(err)
}

// giveUp a replica that is damaged.
func (s *standby) giveUp(err error) {
	if s.useless.Swap(true) {
		return
	}
	s.log.Error("the replica is of no use; the protection begins anew", "peer", s.link.Peer(), "error", err)
	s.g.publish(status.Event{Kind: status.ReplicaDamaged, Message: err.Error()})
	sendReject(s.link, rejectReplica, err)
	s.post(pair.StandbyDropped{Why: err.Error(), Here: true})
}

// reject tells the primary why its data is refused, and ends the link.
func (s *standby) reject(err error) {
	s.log.Error("primary broke the protocol; the last committed epoch is untouched", "peer", s.link.Peer(), "error", err)
	sendReject(s.link, rejectProtocol, err)
}

func sendReject(l *link.Link, code uint16, err error) {
	l.Send(replica.Header{Type: replica.TypeReject}, replica.Reject{Code: code, Reason: err.Error()}.Append(nil))
	l.Close(err)
}

func (s *standby) handle(h replica.Header, payload []byte) (ended bool, err error) {
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
func (s *standby) handleRole(h replica.Header, payload []byte) (ended bool, err error) {
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

func (s *standby) blocks(payload []byte) error {
	b, err := replica.DecodeBlocks(payload)
	if err != nil {
		return err
	}
	return s.replica.SetBlocks(b)
}

func (s *standby) beginEpoch(h replica.Header, payload []byte) error {
	b, err := replica.DecodeEpochBegin(payload)
	if err != nil {
		return err
	}
	s.announced = b
	return s.replica.Begin(h.Epoch, b)
}

func (s *standby) digest(payload []byte) error {
	d, err := replica.DecodeDigest(payload)
	if err != nil {
		return err
	}
	return s.replica.Digest(d)
}

// endEpoch commits the epoch if the primary sent what it had announced. The
// replica checks that this arrived.
func (s *standby) endEpoch(h replica.Header, payload []byte) error {
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
func (s *standby) commit(epoch uint64) error {
	if err := s.replica.End(epoch); err != nil {
		return err
	}
	s.g.d.faults(fault.Storing, epoch)
	s.post(pair.EpochStored{Epoch: epoch})
	select {
	case <-s.acked:
	case <-s.ctx.Done():
		return nil
	}
	s.g.d.faults(fault.Applying, epoch)
	s.g.state.Stored(epoch)
	if err := s.replica.Apply(); err != nil {
		return err
	}
	s.input.Commit(epoch)
	s.g.d.faults(fault.Applied, epoch)
	return nil
}

func (s *standby) learn(payload []byte) error {
	list, err := replica.DecodeAddresses(payload)
	if err != nil {
		return err
	}
	var known []gate.Address
	for _, a := range list.List {
		known = append(known, gate.Address{Port: int(a.Port), Addr: a.IP, MAC: a.MAC, Router: gate.Router(a.Router), Tags: a.Tags})
	}
	s.g.gate.Learn(known)
	return nil
}

// acknowledge commits an epoch: from here the primary may release its output.
func (s *standby) acknowledge(epoch uint64) {
	s.link.Send(replica.Header{Type: replica.TypeAck, Epoch: epoch, Generation: s.g.role.Generation()})
	select {
	case s.acked <- epoch:
	default:
	}
}

// endReceiving stops the receiving goroutine and waits for it. The link stays
// open if the primary's part was over already.
func (s *standby) endReceiving() {
	s.end()
	select {
	case <-s.received:
		return
	default:
	}
	s.link.Close(context.Canceled)
	<-s.received
}

func (g *guest) stopStandby() {
	s := g.standby
	if s == nil {
		return
	}
	g.standby = nil
	g.asStandby.Store(nil)
	s.endReceiving()
	s.link.Close(context.Canceled)
	if s.ran != nil {
		<-s.ran // a takeover reads and writes the replica
	}
	s.close()
	g.state.SetPeer("")
}

func (s *standby) close() {
	if err := s.replica.Close(); err != nil {
		s.log.Warn("replica not closed", "error", err)
	}
}

func (g *guest) peerLink() *link.Link {
	switch {
	case g.protection != nil:
		return g.protection.linkNow()
	case g.standby != nil:
		return g.standby.link
	}
	return nil
}
