package primary

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/pack"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/quiesce"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// Gate is what a primary needs of the wires (hostd/gate): output is cut into epochs,
// input is held while the guest is stopped, and logged.
type Gate interface {
	HoldInput()
	OpenInput()
	AwaitTaken(context.Context) error
	CutInput() (gate.InputCut, error)
	CommitInput()
	Cut(epoch uint64) *gate.Output
	Held() <-chan struct{}
	Addresses() []gate.Address
	MTU(port int) int
	StartLog(how gate.Log, limit uint64)
	StopLog()
	ToLog() <-chan struct{}
	TakeLog(take func(gate.Frame) bool) (first uint64, n int)
	LogBehind() uint64
	Stored(number uint64)
	Arrived() uint64
}

// QEMU is what a primary needs of the one that runs the machine.
type QEMU interface {
	Monitor() *qmp.Client
	ListenCOLO() (capture.Listener, error)
	Ending() <-chan struct{}
	Signal()
}

// Agent of the machine's program (hostd/quiesce).
type Agent interface {
	Quiesce(ctx context.Context, epoch uint64, deadline time.Duration) (quiesce.Answer, error)
	Still() *quiesce.Stillness
	Resume(epoch uint64, takenOver bool, generation uint64)
}

// Options of a Session.
type Options struct {
	Host    string // this one
	Peer    string // that is to be the standby
	Machine spec.Machine
	Policy  policy.Policy

	Detection   config.Detection
	Limits      config.Limits
	Compression config.Link
	// Stream bounds what QEMU may send.
	Stream colo.Limits
	// RAMFile is where the capture reads the guest's RAM, of the block of that name; none
	// if empty.
	RAMFile, RAMBlock string

	Gate  Gate
	QEMU  QEMU
	Agent Agent // nil: the machine has none
	State *status.Machine
	// Ready says why the machine cannot be protected now.
	Ready func() error
	Dial  func(context.Context) (net.Conn, error)
	// Release and PassUntil let output leave until a time, through the machine's door:
	// spoken is false, and nothing leaves, where that is closed.
	Release   func(epoch uint64, until time.Time) (all, spoken bool)
	PassUntil func(time.Time)
	// PassNoMore takes back what PassUntil has allowed.
	PassNoMore func()
	// Holds asks the arbiter whether this host has the voice by that generation still.
	Holds func(ctx context.Context, generation uint64) (bool, error)
	// LinksThere hears how the standby's uplinks and taps are.
	LinksThere func([]gate.Link)
	// Post hands an event to the role machine; it gives up when the context ends.
	Post    func(context.Context, pair.Event)
	Publish func(status.Event)
	Faults  fault.Hook
	Log     hclog.Logger
}

// Session of a primary with a standby, from the connection until either ends. One
// goroutine takes checkpoints and ships them, one at a time: while the standby is slow
// epochs grow longer, and what is held here is never more than one epoch. The role
// machine's owner calls its methods, one at a time, but for those that say otherwise.
type Session struct {
	o       Options
	log     hclog.Logger
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
	// takeFrame is logFrame, made once: a gate is an interface, to which a function made
	// for each call would be an allocation for each.
	takeFrame func(gate.Frame) bool
}

// Link to the standby, or nil while there is none. It may be called concurrently.
func (p *Session) Link() *link.Link {
	p.linking.Lock()
	defer p.linking.Unlock()
	return p.link
}

func newSession(ctx context.Context, o Options) *Session {
	p := &Session{o: o, log: o.Log, ship: make(chan uint64, 1), committed: make(chan uint64, 1), asked: make(chan struct{}, 1)}
	p.takeFrame = p.logFrame
	p.ctx, p.end = context.WithCancel(ctx)
	return p
}

// Start connects to the standby and has it prepare; the answer is an event. Stop ends the
// session.
func Start(ctx context.Context, o Options) *Session {
	p := newSession(ctx, o)
	p.wg.Go(func() {
		err := o.Ready()
		if err == nil {
			err = p.writesNoDisk()
		}
		if err == nil {
			err = p.connect()
		}
		if err != nil {
			p.log.Warn("standby not ready", "peer", o.Peer, "error", err)
			p.post(pair.SeedFailed{Why: err.Error()})
			return
		}
		p.post(pair.StandbyPrepared{})
	})
	return p
}

// Stop ends the session and waits for it. The guest may be left stopped in COLO: who stops
// the session has it leave by what Capture returns.
func (p *Session) Stop() {
	p.end()
	if l := p.Link(); l != nil {
		l.Close(context.Canceled)
	}
	p.wg.Wait()
	p.o.Gate.StopLog()
}

// Capture is what is left of a session that was stopped: nil if it has captured nothing.
func (p *Session) Capture() *capture.Capture { return p.capture }

// Ship allows an epoch to be shipped, as the role machine says.
func (p *Session) Ship(epoch uint64) { p.ship <- epoch }

func (p *Session) limit() time.Duration { return time.Duration(p.o.Detection.Limit) }

// Begin starts the goroutines of a session whose standby is ready.
func (p *Session) Begin() {
	p.wg.Go(p.listen)
	p.wg.Go(p.keepPassing)
	p.wg.Go(p.keepLog)
	p.wg.Go(func() {
		if err := p.protect(); err != nil && p.ctx.Err() == nil {
			p.failed(err)
		}
	})
}

// post hands an event to the role machine, unless the session is being ended: who does that
// waits for it, and takes no events.
func (p *Session) post(e pair.Event) { p.o.Post(p.ctx, e) }

// failed tells the role machine why checkpoints ended. The death of QEMU has
// its own event, which must not be overtaken by this one.
func (p *Session) failed(err error) {
	select {
	case <-p.o.QEMU.Ending():
		return
	case <-p.ctx.Done():
		return
	case <-time.After(deathNotice):
	}
	p.log.Error("checkpoints ended", "error", err)
	p.post(pair.LinkLost{Why: err.Error()})
}

// listen turns the standby's answers into events.
func (p *Session) listen() {
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

func (p *Session) refusal(t replica.Type, payload []byte) error {
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
func (p *Session) protect() error {
	packer, free, err := p.newPacker()
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

func (p *Session) awaitRequest() error {
	defer p.watchCheckpoint()()
	return p.capture.AwaitRequest()
}
