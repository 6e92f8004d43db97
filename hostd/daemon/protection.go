package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/pack"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// protection is the primary's side of a pair, from the connection to the
// standby until either ends. One goroutine takes checkpoints and ships them,
// one at a time: while the standby is slow epochs grow longer, and what is
// held here is never more than one epoch.
type protection struct {
	g       *guest
	linking sync.Mutex // guards link until the standby is prepared
	link    *link.Link
	ctx     context.Context
	end     context.CancelFunc
	wg      sync.WaitGroup

	capture   *capture.Capture
	gauge     capture.Gauge // of the first copy
	ship      chan uint64   // epochs that may be shipped
	committed chan uint64   // epochs whose output has been released
	asked     chan struct{} // a checkpoint is due whatever the policy says
	last      atomic.Bool
	sent      atomic.Uint64 // the last epoch whose end went to the standby, or is about to
	acked     atomic.Uint64 // the last epoch that the standby has acknowledged
	place     int           // among the machines of this host
	policy    policy.Policy
	learned   policy.State
	torn      int            // checkpoints in a row
	outputs   []*gate.Output // what the guest said in them
	addresses []gate.Address // that the standby knows
	pages     replica.PageBatch
	frames    replica.OutputBatch
	message   []byte // a small one on its way, of the goroutine that ships
	packer    *pack.Packer
	sums      *replica.Sums // of what the standby was sent; nil before the first copy
	rates     pack.Rates
	wire      uint64 // bytes of memory and device state sent since it was last 0

	sending  sync.Mutex
	lastSent time.Time // when the last epoch was sent

	// logging guards input and logHead: the log is shipped by two goroutines.
	logging sync.Mutex
	input   replica.OutputBatch
	logged  uint64 // number of the last frame that was shipped
	logHead []byte
}

// linkNow is for those who do not wait until the standby is prepared.
func (p *protection) linkNow() *link.Link {
	p.linking.Lock()
	defer p.linking.Unlock()
	return p.link
}

// startProtection connects to the standby and has it prepare; the answer is an
// event.
func (g *guest) startProtection(peer string) {
	p := &protection{g: g, ship: make(chan uint64, 1), committed: make(chan uint64, 1), asked: make(chan struct{}, 1),
		place: g.d.places.take()}
	p.policy = policyOf(g.spec.Protection, p.place, g.d.started)
	p.ctx, p.end = context.WithCancel(g.ctx)
	g.protection = p
	g.state.SetPeer(peer)
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		err := errLeaving
		if !g.leaving.Load() {
			err = p.writesNoDisk()
		}
		if err == nil {
			err = p.connect(peer)
		}
		if err != nil {
			g.log.Warn("standby not ready", "peer", peer, "error", err)
			p.post(pair.SeedFailed{Why: err.Error()})
			return
		}
		p.post(pair.StandbyPrepared{})
	}()
}

var errLeaving = errors.New("the guest has not left its last pair's COLO yet: its QEMU does not answer")

// writesNoDisk refuses a guest that can write to a disk, which extra-args may have given
// it as well: what it writes is not replicated.
func (p *protection) writesNoDisk() error {
	ctx, cancel := context.WithTimeout(p.ctx, prepareLimit)
	defer cancel()
	all, err := p.g.qemu.Monitor().QueryBlock(ctx)
	if err != nil {
		return fmt.Errorf("ask QEMU for its disks: %w", err)
	}
	for _, b := range all {
		if b.Writable() {
			return fmt.Errorf("machine %s has a writable disk (%s), whose writes are not replicated yet; make it read-only in extra-args", p.g.name, b.Inserted.File)
		}
	}
	return nil
}

func (p *protection) connect(peer string) error {
	address, err := p.g.d.peerAddress(peer)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, prepareLimit)
	defer cancel()
	// A standby's heartbeats alone do not make it one.
	stop := context.AfterFunc(ctx, func() {
		if l := p.linkNow(); l != nil {
			l.Close(fmt.Errorf("wait for the standby to prepare: %w", context.Cause(ctx)))
		}
	})
	defer stop()
	text, err := p.g.specByVersion(ctx).Marshal() // first: the standby waits for it no longer than for a greeting
	if err != nil {
		return err
	}
	if err := p.dial(ctx, peer, address); err != nil {
		return err
	}
	if err := p.hello(); err != nil {
		return err
	}
	return p.prepare(text)
}

func (p *protection) dial(ctx context.Context, peer, address string) error {
	conn, err := p.g.d.network.Dial(ctx, peer, address)
	if err != nil {
		return err
	}
	l := link.New(conn, p.g.d.linkOptions(p.g.log))
	p.linking.Lock()
	p.link = l
	p.linking.Unlock()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		l.Watch(p.ctx)
	}()
	return nil
}

// hello names the machine to the standby and agrees on the protocol.
func (p *protection) hello() error {
	hello := replica.Hello{Protocol: replica.ProtocolNewest, Host: p.g.d.config.Host, Machine: p.g.name}
	if err := p.link.Send(replica.Header{Type: replica.TypeHello}, hello.Append(nil)); err != nil {
		return err
	}
	answer, err := p.expect(replica.TypeWelcome)
	if err != nil {
		return err
	}
	welcome, err := replica.DecodeWelcome(answer)
	if err != nil {
		return err
	}
	if welcome.Protocol < replica.ProtocolOldest || welcome.Protocol > replica.ProtocolNewest {
		return unknownProtocol(welcome.Host, welcome.Protocol)
	}
	return p.checkLimit(welcome)
}

// prepare has the standby start a QEMU of the specification that waits.
func (p *protection) prepare(specification []byte) error {
	prepare := replica.Prepare{Spec: specification, Generation: p.g.state.Generation()}
	if err := p.link.Send(replica.Header{Type: replica.TypePrepare, Generation: prepare.Generation}, prepare.Append(nil)); err != nil {
		return err
	}
	if err := p.checkCards(); err != nil {
		return err
	}
	_, err := p.expect(replica.TypePrepared)
	return err
}

func (p *protection) expect(want replica.Type) ([]byte, error) {
	h, payload, err := p.link.Receive()
	if err != nil {
		return nil, err
	}
	if h.Type == replica.TypeReject {
		reject, err := replica.DecodeReject(payload)
		if err != nil {
			return nil, err
		}
		return nil, refusedError{reject.Reason}
	}
	if h.Type != want {
		return nil, fmt.Errorf("the standby sent %v instead of %v", h.Type, want)
	}
	return payload, nil
}

// refusedError is what a standby says that wants no part in a pair.
type refusedError struct{ reason string }

func (e refusedError) Error() string { return "the standby refuses: " + e.reason }

// begin starts the goroutines of a protection whose standby is ready.
func (p *protection) begin() {
	p.wg.Add(4)
	go func() {
		defer p.wg.Done()
		p.listen()
	}()
	go func() {
		defer p.wg.Done()
		p.keepPassing()
	}()
	go func() {
		defer p.wg.Done()
		p.keepLog()
	}()
	go func() {
		defer p.wg.Done()
		if err := p.protect(); err != nil && p.ctx.Err() == nil {
			p.failed(err)
		}
	}()
}

// post hands an event to the run loop unless the protection is being ended: the
// run loop then waits for this protection and reads nothing.
func (p *protection) post(e pair.Event) {
	select {
	case p.g.events <- e:
	case <-p.ctx.Done():
	}
}

// failed tells the role machine why checkpoints ended. The death of QEMU has
// its own event, which must not be overtaken by this one.
func (p *protection) failed(err error) {
	select {
	case <-p.g.qemu.Ending():
		return
	case <-p.ctx.Done():
		return
	case <-time.After(deathNotice):
	}
	p.g.log.Error("checkpoints ended", "error", err)
	p.post(pair.LinkLost{Why: err.Error()})
}

// listen turns the standby's answers into events.
func (p *protection) listen() {
	for {
		h, payload, err := p.link.Receive()
		if err != nil {
			p.post(pair.LinkLost{Why: err.Error()})
			return
		}
		switch h.Type {
		case replica.TypeAck:
			if sent := p.sent.Load(); h.Epoch > sent {
				p.link.Close(fmt.Errorf("the standby acknowledges epoch %d; the last one sent is %d", h.Epoch, sent))
				continue
			}
			p.acked.Store(h.Epoch)
			p.post(pair.EpochAcked{Epoch: h.Epoch})
		case replica.TypeInputStored:
			p.storedInput(payload)
		case replica.TypeTookOver:
			p.post(pair.PeerTookOver{Generation: h.Generation})
		case replica.TypePorts:
			if err := p.learnPorts(payload); err != nil {
				p.link.Close(err)
			}
		case replica.TypeReject, replica.TypeBye:
			p.link.Close(p.refusal(h.Type, payload))
		default:
			p.link.Close(fmt.Errorf("the standby sent %v, which only a primary sends", h.Type))
		}
	}
}

func (p *protection) refusal(t replica.Type, payload []byte) error {
	if t == replica.TypeReject {
		if r, err := replica.DecodeReject(payload); err == nil {
			return fmt.Errorf("the standby refuses: %s", r.Reason)
		}
	}
	if b, err := replica.DecodeBye(payload); err == nil {
		return fmt.Errorf("the standby left: %s", b.Reason)
	}
	return errors.New("the standby left")
}

// protect seeds the standby and then takes one checkpoint after the other.
func (p *protection) protect() error {
	packer, free, err := p.g.newPacker()
	if err != nil {
		return err
	}
	defer free()
	p.packer = packer
	if err := p.seed(); err != nil {
		return err
	}
	p.startLog()
	epochs := new(capture.Epoch)
	for number := uint64(1); ; number++ {
		if err := p.awaitRequest(); err != nil {
			return fmt.Errorf("wait for QEMU to stand by for a checkpoint: %w", err)
		}
		last, err := p.cycle(epochs, number)
		if err != nil {
			return err
		}
		if last { // QEMU asks for no other: its guest stays stopped
			return p.awaitHandover()
		}
	}
}

func (p *protection) awaitRequest() error {
	defer p.watchCheckpoint()()
	return p.capture.AwaitRequest()
}

func (p *protection) seed() error {
	defer p.watchSeed()()
	g := p.g
	o := capture.Options{Monitor: g.qemu.Monitor(), Listen: g.qemu.ListenCOLO,
		Delay: checkpointDelay, Limits: g.d.streamLimits(g.spec), Gauge: &p.gauge, EpochLimit: uint64(g.d.config.Limits.Epoch), Log: g.log.Named("capture")}
	if g.d.accel == accelTCG {
		o.RAMFile, o.RAMBlock = g.qemu.RAMFile(), machine.RAMBlock
	}
	c, err := capture.Start(p.ctx, o)
	if err != nil {
		return err
	}
	p.capture = c
	context.AfterFunc(p.ctx, c.Close)
	still := &seedStill{protection: p}
	defer still.end()
	if err := c.Seed(p.ctx, seeder{p}, still.begin); err != nil {
		return fmt.Errorf("make the first copy: %w", err)
	}
	return nil
}

// stillLimit is how long packets wait for the end of the first copy. A guest that
// dirties memory as fast as it is shipped puts that end off, and may lose a packet
// that meets the stop.
const stillLimit = 2 * time.Second

// seedStill is the time in which the application rests before the guest stops for
// the end of the first copy.
type seedStill struct {
	*protection
	limit  *time.Timer // nil before it has begun
	opened chan struct{}
}

func (s *seedStill) begin() {
	s.opened = make(chan struct{})
	s.limit = time.AfterFunc(stillLimit, func() {
		defer close(s.opened)
		s.g.log.Debug("the first copy takes long; packets flow again")
		s.reopen(0)
	})
	s.g.gate.HoldInput()
	// QEMU's stream is not read meanwhile, and may hold the guest up: not for long.
	limit := time.Duration(s.g.spec.Protection.QuiesceDeadline)
	s.g.awaitTaken(s.ctx, limit)
	if s.g.agent != nil {
		_, err := s.g.agent.Quiesce(s.ctx, 0, limit)
		s.g.log.Debug("end of the first copy", "quiesced", err == nil)
	}
}

// end lets packets flow, and nothing of this does so later.
func (s *seedStill) end() {
	if s.limit != nil && !s.limit.Stop() {
		<-s.opened
	}
	s.reopen(0)
}

// seeder ships the first full copy as it is read.
type seeder struct{ *protection }

func (s seeder) Blocks(machine string, ram colo.Section, blocks []colo.Block) error {
	b := replica.Blocks{MachineName: machine, RAM: replica.Section(ram)}
	for _, x := range blocks {
		b.Blocks = append(b.Blocks, replica.Block{Name: x.Name, Size: x.Size})
	}
	s.beginSums(b.Blocks)
	return s.link.Send(replica.Header{Type: replica.TypeBlocks}, b.Append(nil))
}

func (s seeder) Pages(b *capture.Batch) error {
	if err := s.sum(b); err != nil {
		return err
	}
	return s.sendBatch(b)
}

// stopProtection ends the protection and waits for it. The guest may be left
// stopped in COLO: Leave frees it.
func (g *guest) stopProtection() {
	p := g.protection
	if p == nil {
		return
	}
	g.protection = nil
	p.end()
	if l := p.linkNow(); l != nil {
		l.Close(context.Canceled)
	}
	p.wg.Wait()
	g.d.places.leave(p.place)
	g.gate.StopLog()
	g.setLinksThere(nil)
	g.state.SetPeer("")
}
