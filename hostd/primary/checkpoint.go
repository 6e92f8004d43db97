package primary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/quiesce"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// taken is what one checkpoint did, for the operator.
type taken struct {
	epoch     *capture.Epoch
	output    []*gate.Output // of this attempt, after those of the torn ones before it
	torn      bool
	input     gate.InputCut
	started   time.Time
	quiesce   time.Duration
	quiesced  bool
	forced    bool
	last      bool
	ended     time.Time // arriving packets flow again
	frames    int
	wire      uint64 // bytes sent for the epoch's memory and device state
	committed time.Time
}

// cycle waits until a checkpoint is due, takes it, ships it and waits for its
// commit. The guest stays stopped after the last one.
func (p *Session) cycle(e *capture.Epoch, number uint64) (last bool, err error) {
	for {
		if err := p.awaitDue(number); err != nil {
			return false, err
		}
		t, err := p.take(e, number)
		if errors.Is(err, errSkipped) {
			continue
		}
		if errors.Is(err, errTorn) {
			if err := p.afterTorn(); err != nil {
				return false, err
			}
			continue
		}
		if err != nil {
			return false, err
		}
		return t.last, p.finish(t)
	}
}

// awaitDue blocks until the policy, or an operator, wants a checkpoint.
func (p *Session) awaitDue(number uint64) error {
	if number == 1 { // ends the seeding
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, wait := p.o.Policy.Next(p.learned, time.Now())
		if due {
			return p.ctx.Err() // one that is skipped may be due again at once
		}
		timer.Reset(wait)
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-timer.C:
		case <-p.o.Gate.Held():
			p.learned.Held = true
		case <-p.asked:
			p.learned.Asked = true
		}
	}
}

var errSkipped = errors.New("checkpoint skipped: the agent did not reach a still point")

// take makes one checkpoint: arriving packets wait, the application comes to
// rest, the guest stops, is copied, and runs again.
func (p *Session) take(e *capture.Epoch, number uint64) (*taken, error) {
	t := &taken{epoch: e, started: time.Now(), last: p.last.Load()}
	p.reach(fault.Requested, number)
	p.o.Gate.HoldInput()
	p.awaitTaken(takenLimit)
	p.reach(fault.Quiescing, number)
	if err := p.quiesce(t, number); err != nil {
		p.reopen(number)
		p.learned = p.o.Policy.Skipped(p.learned, t.started, time.Now())
		return nil, err
	}
	defer p.watchCheckpoint()()
	if err := p.copyEpoch(t, number); err != nil {
		return nil, err
	}
	if t.last && !t.torn {
		return t, t.epoch.Over()
	}
	if err := p.resume(t); err != nil {
		return nil, err
	}
	if err := t.epoch.Over(); err != nil { // the guest runs; nobody can be given this epoch
		return nil, fmt.Errorf("%w (limits.epoch)", err)
	}
	if t.torn {
		p.carry(t)
		return nil, errTorn
	}
	p.torn, p.outputs = 0, t.output[:0] // they are shipped before the next is cut
	return t, nil
}

// quiesce asks the agent for a still point. Without one the checkpoint is
// taken all the same, unless the policy is to skip it: quiescence makes a
// checkpoint small, not correct.
func (p *Session) quiesce(t *taken, number uint64) error {
	if p.o.Agent == nil {
		return nil
	}
	deadline := time.Duration(p.o.Machine.Protection.QuiesceDeadline)
	_, err := p.o.Agent.Quiesce(p.ctx, number, deadline)
	t.quiesce = time.Since(t.started)
	t.quiesced = err == nil
	if err == nil || errors.Is(err, quiesce.ErrNoAgent) {
		return p.ctx.Err()
	}
	t.forced = true
	if p.o.Machine.Protection.OnQuiesceFailure == spec.Skip && !t.last && number > 1 {
		return errSkipped
	}
	return p.ctx.Err()
}

// copyEpoch stops the guest and copies it. Unless the epoch is the last one the
// guest may run on as soon as QEMU has made its copies, while what is left of them
// is read.
func (p *Session) copyEpoch(t *taken, number uint64) (err error) {
	stopped, unbroken := func() {}, func() bool { return true }
	if agent := p.o.Agent; agent != nil {
		still := agent.Still()
		defer still.End()
		stopped, unbroken = still.Stopped, still.Unbroken
	}
	if t.input, err = p.o.Gate.CutInput(); err != nil {
		return err
	}
	if err := p.capture.Stop(t.epoch, number); err != nil {
		return err
	}
	stopped()
	t.output = append(p.outputs, p.o.Gate.Cut(number))
	for _, o := range t.output {
		t.frames += o.Len()
	}
	p.reach(fault.Stopped, number)
	p.reach(fault.Copying, number)
	if err := p.capture.Copy(t.epoch); err != nil {
		return err
	}
	t.torn = !unbroken()
	p.reach(fault.Copied, number)
	if !t.last || t.torn {
		if err := p.capture.LetGo(); err != nil {
			return err
		}
	}
	return p.capture.CopyDevices(t.epoch)
}

func (p *Session) resume(t *taken) error {
	ctx, cancel := context.WithTimeout(p.ctx, resumeLimit)
	defer cancel()
	if err := p.capture.AwaitResume(ctx, t.epoch); err != nil {
		return err
	}
	p.reopen(t.epoch.Number)
	t.ended = time.Now()
	p.learned = p.o.Policy.Paused(p.learned, t.started, t.ended)
	return nil
}

// reopen lets the application and the arriving packets go on.
func (p *Session) reopen(number uint64) {
	if p.o.Agent != nil {
		p.o.Agent.Resume(number, false, p.o.State.Generation())
	}
	p.o.Gate.OpenInput()
}

// finish ships the epoch when the role machine says so and waits until its
// output has been released.
func (p *Session) finish(t *taken) error {
	n := t.epoch.Number
	p.post(pair.EpochCaptured{Epoch: n, Last: t.last})
	if err := p.await(p.ship, n); err != nil {
		return err
	}
	p.reach(fault.Shipping, n)
	if err := p.send(t); err != nil {
		return err
	}
	p.reach(fault.Sent, n)
	defer p.expectAck(n)()
	if err := p.await(p.committed, n); err != nil {
		return err
	}
	t.committed = time.Now()
	p.report(t)
	return nil
}

// acksAfter is how many detection limits a standby that holds an epoch may take
// to say so.
const acksAfter = 5

var errNoAck = errors.New("the standby lives and does not acknowledge what it was sent")

// expectAck gives a standby up that only keeps the link alive: output must not
// wait for it for ever.
func (p *Session) expectAck(epoch uint64) (done func()) {
	timer := time.AfterFunc(acksAfter*p.limit(), func() {
		if p.acked.Load() < epoch {
			p.link.Close(errNoAck)
		}
	})
	return func() { timer.Stop() }
}

func (p *Session) await(c <-chan uint64, n uint64) error {
	for {
		select {
		case got := <-c:
			if got >= n {
				return nil
			}
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
}

// send writes the epoch to the standby. It blocks while the standby is slow.
func (p *Session) send(t *taken) error {
	e := t.epoch
	if err := p.sendAddresses(); err != nil {
		return err
	}
	begin := replica.EpochBegin{Pages: e.Pages, ZeroPages: e.ZeroPages, Device: uint32(len(e.Device)), Output: uint32(t.frames)}
	p.message = begin.Append(p.message[:0])
	if err := p.link.Send(p.header(replica.TypeEpochBegin, e.Number), p.message); err != nil {
		return err
	}
	p.wire = 0
	if err := p.sendEpochPages(e); err != nil {
		return err
	}
	if err := p.sendDevice(e); err != nil {
		return err
	}
	t.wire = p.wire
	for _, o := range t.output {
		if err := p.sendOutput(o); err != nil {
			return err
		}
	}
	if err := p.sendInputCut(t); err != nil {
		return err
	}
	if err := p.sendDigest(e); err != nil {
		return err
	}
	p.sendsNow()
	p.sent.Store(e.Number)
	p.message = replica.EpochEnd(begin).Append(p.message[:0])
	return p.link.Send(p.header(replica.TypeEpochEnd, e.Number), p.message)
}

func (p *Session) header(t replica.Type, epoch uint64) replica.Header {
	return replica.Header{Type: t, Epoch: epoch, Generation: p.o.State.Generation()}
}

func (p *Session) reach(label string, epoch uint64) { p.o.Faults(label, epoch) }

// report publishes what the checkpoint cost, step by step.
func (p *Session) report(t *taken) {
	times := t.epoch.Times
	pause := times.Pause
	if pause == 0 {
		pause = times.Resumed.Sub(times.Stopped)
	}
	c := status.Checkpoint{
		Epoch: t.epoch.Number, Started: t.started,
		Quiesce: t.quiesce, Stop: times.Stopped.Sub(times.Reply),
		Copy: times.Copied.Sub(times.Stopped), Pause: pause,
		Total: t.ended.Sub(t.started), Commit: t.committed.Sub(t.ended),
		Pages: t.epoch.Pages, ZeroPages: t.epoch.ZeroPages, Bytes: t.epoch.Bytes(),
		DeviceBytes: uint64(len(t.epoch.Device)), Quiesced: t.quiesced, Forced: t.forced,
		OutputFrames: uint64(t.frames), WireBytes: t.wire,
	}
	if t.last {
		c.Pause, c.Total, c.Commit = 0, 0, 0
	}
	p.o.State.Committed(c)
	p.o.Publish(status.Event{Kind: status.Committed, Epoch: c.Epoch, Checkpoint: &c})
}
