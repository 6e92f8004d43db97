package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

const (
	tapName    = "tap0"
	uplinkName = "up0"
	memory     = 16 << 20
)

// qemu is one QEMU process with its guest. It outlives the daemon.
type qemu struct {
	h       *host
	pid     int
	ramFile string

	mu       sync.Mutex
	guest    *guest // nil while it waits for a takeover
	runs     bool   // the guest runs
	status   string // of the migration
	listener *coloListener
	stream   *conn // of a protection
	incoming chan *conn
	awaits   bool // a takeover's stream
	hung     chan struct{}
	monitor  *monitor
	session  *session

	ending, exited chan struct{}
	once           sync.Once
	reason         error
}

// session is one protection of a guest: what it was at each checkpoint.
type session struct {
	from   string
	epochs map[uint64]*node
}

func (h *host) spawn(incoming bool) (*qemu, error) {
	q := &qemu{h: h, pid: h.w.nextPid(), status: "none", ending: make(chan struct{}), exited: make(chan struct{}), incoming: make(chan *conn, 1)}
	if incoming {
		var err error
		if q.ramFile, err = h.w.takeRAM(); err != nil {
			return nil, err
		}
	} else {
		q.guest, q.runs = newGuest(h.w.oracle.boot(h.name)), true
	}
	h.card.attach(q)
	h.w.tasks.Go(q.tick)
	return q, nil
}

// tick is the guest's own work.
func (q *qemu) tick() {
	for {
		t := time.NewTimer(q.h.w.between(20*time.Millisecond, 80*time.Millisecond))
		select {
		case <-t.C:
			q.mu.Lock()
			q.work(nil)
			q.mu.Unlock()
		case <-q.ending:
			t.Stop()
			return
		}
	}
}

// work with the lock held: the guest takes a step and says so.
func (q *qemu) work(input []byte) {
	if !q.runs || q.hung != nil || q.dead() {
		return
	}
	q.guest.step(q.h.w.oracle.step(q.guest.now, input))
	q.h.card.emit(outputFrame(q.guest.now))
}

func (q *qemu) readTap() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.runs && q.hung == nil && !q.dead() {
		f, ok := q.h.card.next()
		if !ok {
			return
		}
		q.work(f)
	}
}

func (q *qemu) dead() bool {
	select {
	case <-q.ending:
		return true
	default:
		return false
	}
}

// die at once; the process may take longer to be gone.
func (q *qemu) die(why string) {
	q.once.Do(func() {
		q.h.w.log("%s: QEMU %d ends: %s", q.h.name, q.pid, why)
		q.reason = errors.New(why)
		q.mu.Lock()
		q.runs = false
		close(q.ending)
		stream, l, m := q.stream, q.listener, q.monitor
		q.mu.Unlock()
		q.h.card.detach(q)
		if stream != nil {
			stream.Close()
		}
		if l != nil {
			l.Close()
		}
		if m != nil {
			m.hangUp()
		}
		q.h.w.tasks.Go(func() {
			time.Sleep(q.h.w.endingTime())
			q.h.gone(q)
			close(q.exited)
		})
	})
}

func (q *qemu) hang() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hung == nil {
		q.hung = make(chan struct{})
	}
}

func (q *qemu) unhang() {
	q.mu.Lock()
	if q.hung != nil {
		close(q.hung)
		q.hung = nil
	}
	q.mu.Unlock()
	q.readTap()
}

// awake waits as long as QEMU hangs, and fails when it has ended.
func (q *qemu) awake() bool {
	for {
		q.mu.Lock()
		hung := q.hung
		q.mu.Unlock()
		if q.dead() {
			return false
		}
		if hung == nil {
			return true
		}
		select {
		case <-hung:
		case <-q.ending:
			return false
		}
	}
}

// pause of QEMU's own; it fails when QEMU has ended.
func (q *qemu) pause(most time.Duration) bool {
	t := time.NewTimer(q.h.w.between(0, most))
	defer t.Stop()
	select {
	case <-t.C:
		return q.awake()
	case <-q.ending:
		return false
	}
}

func (q *qemu) setStatus(s string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.status = s
}

// stop the guest for a protection, if that goes on, and tell.
func (q *qemu) stop(c *conn) bool {
	q.mu.Lock()
	goesOn := q.stream == c && !q.dead()
	if goesOn {
		q.runs = false
	}
	m := q.monitor
	q.mu.Unlock()
	if goesOn {
		m.event("STOP")
	}
	return goesOn
}

func (q *qemu) resume() {
	q.mu.Lock()
	q.runs = q.guest != nil && !q.dead()
	m := q.monitor
	q.mu.Unlock()
	m.event("RESUME")
	q.readTap()
}

// protect plays COLO's primary.
func (q *qemu) protect(c *conn) {
	q.mu.Lock()
	q.stream, q.status = c, "active"
	s := &session{from: q.h.name, epochs: map[uint64]*node{}}
	q.session = s
	q.mu.Unlock()
	q.h.w.oracle.protects(s)
	defer c.Close()
	if !q.firstCopy(c) {
		q.mu.Lock()
		if q.status == "active" {
			q.status = "failed"
		}
		q.mu.Unlock()
		return
	}
	for n := uint64(1); q.checkpoint(c, s, n); n++ {
	}
}

func (q *qemu) firstCopy(c *conn) bool {
	q.mu.Lock()
	first := q.guest.pages(true)
	q.mu.Unlock()
	if _, err := c.Write(appendPages(streamHead(), first)); err != nil || !q.pause(5*time.Millisecond) {
		return false
	}
	q.mu.Lock()
	second := q.guest.pages(false)
	q.mu.Unlock()
	if _, err := c.Write(appendPages(nil, second)); err != nil || !q.pause(5*time.Millisecond) {
		return false
	}
	if !q.stop(c) {
		return false
	}
	q.mu.Lock()
	rest := q.guest.pages(false)
	q.mu.Unlock()
	if _, err := c.Write(append(appendPages(nil, rest), 4)); err != nil {
		return false
	}
	q.setStatus("colo")
	if !hear(c, colo.CheckpointReady) || !q.awake() {
		return false
	}
	q.resume()
	return true
}

// checkpoint number n, as the daemon wants it.
func (q *qemu) checkpoint(c *conn, s *session, n uint64) bool {
	if !q.pause(8 * time.Millisecond) {
		return false
	}
	c.Write(colo.AppendMessage(nil, colo.CheckpointRequest))
	if !hear(c, colo.CheckpointReply) || !q.pause(2*time.Millisecond) {
		return false
	}
	if !q.stop(c) {
		return false
	}
	q.mu.Lock()
	pages, now := q.guest.pages(false), q.guest.now
	q.mu.Unlock()
	q.h.w.oracle.taken(s, n, now)
	c.Write(colo.AppendMessage(nil, colo.VMStateSend))
	if !q.pause(2 * time.Millisecond) {
		return false
	}
	c.Write(appendDevice(append(appendPages(nil, pages), 0), now))
	if !hear(c, colo.VMStateReceived) || !hear(c, colo.VMStateLoaded) || !q.awake() {
		return false
	}
	q.mu.Lock()
	colo := q.status == "colo" && q.stream == c
	q.mu.Unlock()
	if colo {
		q.resume()
	}
	return colo
}

func hear(c *conn, want colo.Message) bool {
	var b [4]byte
	_, err := io.ReadFull(c, b[:])
	return err == nil && string(b[:]) == string(colo.AppendMessage(nil, want))
}

// takeOver runs the machine from a stream and the memory's file.
func (q *qemu) takeOver(c *conn) {
	b, err := io.ReadAll(c)
	if err != nil || !q.pause(10*time.Millisecond) {
		return
	}
	if q.h.w.takesOverBadly() {
		q.die("it cannot load the machine")
		return
	}
	g, err := loadGuest(q.h.w.oracle, b, q.ramFile)
	if err != nil {
		q.h.w.finding("%s: a takeover runs from no epoch: %v", q.h.name, err)
		return
	}
	q.h.w.oracle.runs(q.h.name, g.now)
	q.mu.Lock()
	q.guest, q.status = g, "completed"
	q.mu.Unlock()
	q.resume()
}

// coloListener is where QEMU connects to for a protection.
type coloListener struct {
	i        *incarnation
	accepted chan *conn
	quit     chan struct{}
	once     sync.Once
}

func (l *coloListener) URI() string { return "unix:colo" }

func (l *coloListener) Accept() (capture.Conn, error) {
	select {
	case c := <-l.accepted:
		l.i.adopt(c)
		return c, nil
	case <-l.quit:
		return nil, net.ErrClosed
	}
}

func (l *coloListener) Close() error {
	l.once.Do(func() { close(l.quit) })
	return nil
}

// hypervisor of a host, as one daemon sees it.
type hypervisor struct{ *incarnation }

func (v hypervisor) Start(ctx context.Context, o machine.Options) (daemon.QEMU, error) {
	if v.isDead() {
		return nil, errors.New("the daemon is dead")
	}
	if err := sleep(ctx, v.host.w.between(time.Millisecond, 30*time.Millisecond)); err != nil {
		return nil, err
	}
	if v.isDead() {
		return nil, errors.New("the daemon is dead")
	}
	if v.host.process() != nil {
		return nil, errors.New("its QEMU is left from an earlier daemon")
	}
	q, err := v.host.spawn(o.Incoming)
	if err != nil {
		return nil, err
	}
	v.host.own(q)
	v.host.w.log("%s: QEMU %d starts, incoming %v", v.host.name, q.pid, o.Incoming)
	h := &handle{v.incarnation, q, nil}
	if err := h.Connect(ctx); err != nil {
		h.Remove()
		return nil, err
	}
	return h, nil
}

func (v hypervisor) Find(o machine.Options, _ []string) (daemon.QEMU, error) {
	q := v.host.process()
	if q == nil {
		return &handle{v.incarnation, nil, nil}, machine.ErrNotRunning
	}
	return &handle{v.incarnation, q, nil}, nil
}

// handle is a QEMU as one daemon has it.
type handle struct {
	i      *incarnation
	q      *qemu
	client *qmp.Client
}

func (h *handle) Connect(ctx context.Context) (err error) {
	h.client, err = qmp.New(ctx, &monitor{q: h.q, i: h.i, quit: make(chan struct{})}, hclog.NewNullLogger())
	return err
}

func (h *handle) Monitor() *qmp.Client { return h.client }

func (h *handle) DialAgent(context.Context) (net.Conn, error) {
	return nil, errors.New("there is no agent")
}

func (h *handle) ListenCOLO() (capture.Listener, error) {
	l := &coloListener{i: h.i, accepted: make(chan *conn, 1), quit: make(chan struct{})}
	h.q.mu.Lock()
	defer h.q.mu.Unlock()
	h.q.listener = l
	return l, nil
}

func (h *handle) IncomingURI() string { return "unix:incoming" }

func (h *handle) DialIncoming(ctx context.Context) (net.Conn, error) {
	h.q.mu.Lock()
	awaits := h.q.awaits
	h.q.awaits = false
	h.q.mu.Unlock()
	if !awaits || h.q.dead() || h.i.isDead() {
		return nil, errors.New("connection refused")
	}
	mine, theirs := local()
	h.i.host.w.tasks.Go(func() { h.q.takeOver(theirs) })
	h.i.adopt(mine)
	return mine, nil
}

// Pid is 0 where no QEMU was found.
func (h *handle) Pid() int {
	if h.q == nil {
		return 0
	}
	return h.q.pid
}

func (h *handle) RAMFile() string      { return h.q.ramFile }
func (h *handle) Taps() []string       { return nil }
func (h *handle) UrgentSocket() string { return "" }

func (h *handle) Ending() <-chan struct{} { return h.q.ending }
func (h *handle) Exited() <-chan struct{} { return h.q.exited }
func (h *handle) Reason() error           { return h.q.reason }

func (h *handle) Signal() {
	if h.q != nil && !h.i.isDead() {
		h.q.die("signal: killed")
	}
}

func (h *handle) Kill() {
	h.Signal()
	if h.q != nil && !h.i.isDead() {
		<-h.q.exited
	}
}

func (h *handle) Release() {
	if h.client != nil {
		h.client.Close()
	}
}

func (h *handle) Remove() {
	h.Kill()
	h.Release()
}
