package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/compat"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/primary"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// greetings is how many detection limits a peer may take to say what it wants.
const greetings = 4

var (
	errSlowGreeting = errors.New("the peer took too long to say what it wants")
	errLeft         = errors.New("the peer left before it said what it wants")
)

// servePeer answers a host that wants this one as its standby.
func (d *Daemon) servePeer(conn net.Conn) {
	l := link.New(conn, d.linkOptions(d.log))
	name, err := d.knownPeer(conn)
	if err != nil {
		d.log.Warn("peer refused", "peer", l.Peer(), "error", err)
		l.Close(err)
		return
	}
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	stop := context.AfterFunc(d.ctx, func() { l.Close(context.Canceled) })
	defer stop()
	d.tasks.Go(func() { l.Watch(ctx) })
	if err := d.prepareStandby(l, name); errors.Is(err, errLeft) { // it only asked whether this daemon is there, or would not have it
		l.Close(err)
		return
	} else if err != nil {
		d.log.Warn("peer refused", "peer", l.Peer(), "error", err)
		l.Reject(replica.RejectMachine, err)
		return
	}
	<-l.Done()
}

// prepareStandby reads the primary's greeting and starts a QEMU that waits.
func (d *Daemon) prepareStandby(l *link.Link, peer string) error {
	hello, prepare, err := d.greeting(l)
	if errors.Is(err, io.EOF) {
		return errLeft
	}
	if err != nil {
		return err
	}
	if hello.Host != peer {
		return fmt.Errorf("the peer says that it is host %q, and its certificate says %q", hello.Host, peer)
	}
	s, err := spec.Parse("machine from "+hello.Host, prepare.Spec)
	if err != nil {
		return err
	}
	if s.Name != hello.Machine {
		return fmt.Errorf("the peer said machine %q and sent machine %q", hello.Machine, s.Name)
	}
	return d.becomeStandby(l, hello, prepare.Generation, s)
}

// confirm asks this host's arbiter for the record by which a primary speaks. One that does
// not answer now may do so when it is needed.
func (d *Daemon) confirm(ctx context.Context, machine, primary string, generation uint64) error {
	err := d.voices.Confirm(ctx, machine, primary, generation, claimLimit)
	if errors.Is(err, voice.ErrSilent) {
		d.log.Warn("this host becomes a standby, and takes nothing over before the arbiter answers", "machine", machine, "primary", primary, "error", err)
		return nil
	}
	return err
}

// greeting reads what a primary sends before a QEMU is started for it. It must
// come soon: bytes that trickle in keep a link alive.
func (d *Daemon) greeting(l *link.Link) (hello replica.Hello, prepare replica.Prepare, err error) {
	late := time.AfterFunc(greetings*time.Duration(d.config.Detection.Limit), func() { l.Close(errSlowGreeting) })
	defer late.Stop()
	if hello, err = d.welcome(l); err != nil {
		return hello, prepare, err
	}
	h, payload, err := l.Receive()
	if err != nil {
		return hello, prepare, err
	}
	if h.Type != replica.TypePrepare {
		return hello, prepare, fmt.Errorf("the peer sent %v instead of prepare", h.Type)
	}
	prepare, err = replica.DecodePrepare(payload)
	return hello, prepare, err
}

func (d *Daemon) welcome(l *link.Link) (replica.Hello, error) {
	h, payload, err := l.Receive()
	if err != nil {
		return replica.Hello{}, err
	}
	if h.Type != replica.TypeHello {
		return replica.Hello{}, fmt.Errorf("the peer sent %v instead of hello", h.Type)
	}
	hello, err := replica.DecodeHello(payload)
	if err != nil {
		return hello, err
	}
	if hello.Protocol < replica.ProtocolOldest {
		return hello, compat.UnknownProtocol(hello.Host, hello.Protocol)
	}
	welcome := replica.Welcome{Protocol: min(hello.Protocol, replica.ProtocolNewest), Host: d.config.Host, Limit: uint64(d.detectionLimit())}
	return hello, l.Send(replica.Header{Type: replica.TypeWelcome}, welcome.Append(nil))
}

func (d *Daemon) becomeStandby(l *link.Link, hello replica.Hello, generation uint64, s spec.Machine) error {
	ctx, cancel := d.whileLinked(l)
	defer cancel()
	ctx, end := context.WithTimeout(ctx, primary.PrepareLimit)
	defer end()
	release, err := d.reserveSoon(ctx, s.Name)
	if err != nil {
		return err
	}
	defer release()
	d.awaitEndOfStandby(ctx, s.Name)
	if err := d.clearForStandby(s.Name); err != nil {
		return err
	}
	if err := d.confirm(ctx, s.Name, hello.Host, generation); err != nil {
		return err
	}
	g := d.newGuest(s)
	if err := g.bringUp(ctx, true); err != nil {
		return compat.AdviseOnType(err)
	}
	d.add(g) // before its run loop, which may retire it at once
	if err := g.prepared(ctx, l, hello, generation); err != nil {
		err = g.whyItEnded(ctx, err)
		g.remove()
		d.forget(g.name)
		return err
	}
	return nil
}

// endPatience is for how long a QEMU whose monitor has ended may take to end itself.
const endPatience = 5 * time.Second

// whyItEnded adds what is known of a QEMU's end to the error of a question that it left
// unanswered.
func (g *guest) whyItEnded(ctx context.Context, err error) error {
	if !g.qemuEnds() && !errors.Is(err, qmp.ErrEnded) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	select {
	case <-g.qemu.Exited():
		return fmt.Errorf("%w (%w)", g.qemu.Reason(), err)
	case <-ctx.Done():
		return err
	}
}

var errHungUp = errors.New("the primary has hung up")

// whileLinked is a context that ends when the peer hangs up: a primary that has given up may
// ask for the next standby at once, which must not wait for a QEMU that nobody wants.
func (d *Daemon) whileLinked(l *link.Link) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	d.tasks.Go(func() {
		select {
		case <-l.Left():
			cancel(errHungUp)
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil) }
}

// awaitEndOfStandby gives a standby of that machine time to learn that its pair has
// ended: its primary knows first, and the next pair, or the machine itself, may be
// asked for at once.
func (d *Daemon) awaitEndOfStandby(ctx context.Context, name string) {
	limit := time.NewTimer(2 * d.detectionLimit())
	defer limit.Stop()
	for old := d.find(name); old != nil; old = d.find(name) {
		role, changed := old.state.Role()
		if role != pair.Standby {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// clearForStandby removes what an earlier pair left of the machine here. A
// machine that runs here is never replaced.
func (d *Daemon) clearForStandby(name string) error {
	old := d.find(name)
	if old == nil {
		return nil
	}
	switch role, _ := old.state.Role(); role {
	case pair.Fenced:
	case pair.Unprotected:
		if !old.ended() {
			return fmt.Errorf("machine %s runs on host %s itself", name, d.config.Host)
		}
	default:
		return fmt.Errorf("machine %s is %s on host %s", name, role, d.config.Host)
	}
	old.remove()
	d.forget(name)
	return nil
}

// qemuEnds says that QEMU's end is certain: that it ended, and why, is known soon.
func (g *guest) qemuEnds() bool {
	select {
	case <-g.qemu.Ending():
		return true
	default:
		return false
	}
}

// ended reports that no QEMU of the guest is left.
func (g *guest) ended() bool {
	select {
	case <-g.qemu.Exited():
		return true
	default:
		return false
	}
}

// prepared makes the waiting QEMU ready for a takeover and tells the primary.
func (g *guest) prepared(ctx context.Context, l *link.Link, hello replica.Hello, generation uint64) error {
	if err := g.qemu.Monitor().SetCapabilities(ctx, map[string]bool{"x-ignore-shared": true}); err != nil {
		return err
	}
	version, err := g.qemu.Monitor().QueryVersion(ctx)
	if err != nil {
		return err
	}
	g.state.SetQEMU(version.String())
	cards, err := compat.Offers(ctx, g.qemu.Monitor(), g.spec.Ports, g.gate.MTU)
	if err != nil {
		return err
	}
	if err := l.Send(replica.Header{Type: replica.TypeCards}, cards.Append(nil)); err != nil {
		return err
	}
	if err := g.qemu.Monitor().MigrateIncoming(ctx, g.qemu.IncomingURI()); err != nil {
		return err
	}
	if err := g.makeStandby(l, hello.Host); err != nil {
		return err
	}
	s := g.standby
	g.start(pair.BecomeStandby{Primary: hello.Host, Generation: generation})
	s.Begin()
	reply := replica.Prepared{QEMUVersion: version.String()}
	if err := l.Send(replica.Header{Type: replica.TypePrepared}, reply.Append(nil)); err != nil {
		return err
	}
	g.d.tasks.Go(s.TellPorts)
	return nil
}
