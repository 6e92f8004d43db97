package guestagent

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

// writeLimit is how long a frame may wait for a host that does not read. It is
// short: the same goroutine opens the gate.
const writeLimit = 10 * time.Millisecond

// event is what the reading goroutine and the callbacks tell the agent's
// goroutine; one of its fields counts.
type event struct {
	opened  io.Writer // a channel; nil together with gone
	gone    bool      // the channel
	header  agent.Header
	payload []byte
	skipped uint64  // more bytes, with a frame
	revived *uint64 // generation whose callbacks have returned
}

// read keeps a channel open and reports its frames.
func (a *Agent) read(ctx context.Context) {
	quiet := false
	for ctx.Err() == nil {
		channel, err := a.config.Open()
		if err != nil {
			if !quiet {
				a.config.Log.Info("no host yet", "error", err)
			}
			quiet = true
			sleep(ctx, 10*a.config.Retry)
			continue
		}
		quiet = false
		a.readChannel(ctx, channel)
		channel.Close()
		sleep(ctx, a.config.Retry)
	}
}

// readChannel returns when the channel fails. End of file is no failure: a
// virtio-serial port reads as empty while its host end is closed, and comes
// back.
func (a *Agent) readChannel(ctx context.Context, channel io.ReadWriteCloser) {
	defer context.AfterFunc(ctx, func() { channel.Close() })()
	a.tell(ctx, event{opened: channel})
	defer a.tell(ctx, event{gone: true})
	r := agent.NewReader(channel)
	skipped := uint64(0)
	for ends := 0; ctx.Err() == nil; {
		h, payload, err := r.Next()
		if err == io.EOF && canComeBack(channel) {
			if ends++; ends == 1 {
				a.config.Log.Debug("host end of the channel is closed")
			}
			sleep(ctx, a.config.Retry)
			continue
		}
		if err != nil {
			a.config.Log.Warn("agent channel failed", "error", err)
			return
		}
		if ends > 0 {
			ends = 0
			a.config.Log.Debug("host end of the channel is open again")
		}
		e := event{header: h, payload: append([]byte(nil), payload...), skipped: r.Skipped() - skipped}
		skipped = r.Skipped()
		a.tell(ctx, e)
	}
}

// canComeBack says whether end of file is a state and not an end: so it is for
// device files, and not for connections.
func canComeBack(channel io.ReadWriteCloser) bool {
	_, isFile := channel.(interface{ Name() string })
	return isFile
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (a *Agent) tell(ctx context.Context, e event) {
	select {
	case a.events <- e:
	case <-ctx.Done():
	}
}

// driver carries out the session's effects. It belongs to one goroutine.
type driver struct {
	*Agent
	ctx     context.Context
	session session
	channel io.Writer
	timer   *time.Timer
}

// run is the agent's goroutine: it owns the session.
func (a *Agent) run(ctx context.Context) {
	d := &driver{Agent: a, ctx: ctx, timer: time.NewTimer(0)}
	d.session = session{maxClosed: a.config.MaxClosed, callbacks: a.config.TakeoverLimit}
	defer d.timer.Stop()
	for {
		select {
		case e := <-a.events:
			d.event(e)
		case <-a.gate.Changed():
		case <-a.listed:
			d.do(time.Now(), reply(agent.TypeWelcome, d.welcome().Append(nil)))
		case <-d.timer.C:
		case <-ctx.Done():
			return
		}
		d.look()
	}
}

func (d *driver) event(e event) {
	switch {
	case e.opened != nil:
		d.channel = e.opened
		d.do(time.Now(), reply(agent.TypeWelcome, d.welcome().Append(nil)))
	case e.gone:
		d.channel = nil
	case e.revived != nil:
		d.do(time.Now(), d.session.revivedDone(*e.revived)...)
	default:
		now := time.Now()
		d.do(now, d.session.heard(now, e.header, e.payload, d.welcome())...)
		d.note(func(s *Stats) { s.Skipped += e.skipped; s.Stale = d.session.stale })
	}
}

// look sees whether the application has come to rest, and what is due.
func (d *driver) look() {
	now := time.Now()
	var count Count
	if d.session.phase == settling {
		if count = d.gate.Count(); count == (Count{}) {
			d.do(now, d.session.quiescent(d.counters())...)
		}
	}
	d.do(now, d.session.tick(now, count)...)
	if due := d.session.due; !due.IsZero() {
		d.timer.Reset(max(0, due.Sub(now)))
	} else {
		d.timer.Stop()
	}
}

func (d *driver) do(now time.Time, effects ...effect) {
	for _, e := range effects {
		switch e.kind {
		case closeGate:
			d.gate.Close()
		case openGate:
			d.gate.Open()
		case runTakeover:
			d.config.Log.Info("taken over", "generation", e.generation)
			d.note(func(s *Stats) { s.Takeovers++ })
			d.revive(e.generation)
		case send:
			d.count(e)
			d.send(now, e)
		}
	}
}

// revive runs the callbacks beside the agent's goroutine, which has the clock.
func (d *driver) revive(generation uint64) {
	d.mu.Lock()
	callbacks := d.callbacks
	d.mu.Unlock()
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		for _, f := range callbacks {
			f(Takeover{Generation: generation})
		}
		d.tell(d.ctx, event{revived: &generation})
	}()
}

// send writes a frame. One that the channel does not take is lost: the host has
// its deadline.
func (d *driver) send(now time.Time, e effect) {
	if d.channel == nil {
		return
	}
	h := agent.Header{Type: e.frame, Session: d.session.id, Epoch: d.session.epoch}
	frame, err := agent.Append(nil, h, e.payload)
	if err == nil {
		if c, ok := d.channel.(interface{ SetWriteDeadline(time.Time) error }); ok {
			err = c.SetWriteDeadline(now.Add(writeLimit))
		}
	}
	if err == nil {
		_, err = d.channel.Write(frame)
	}
	if err != nil {
		d.config.Log.Debug("not sent", "error", fmt.Errorf("send %v: %w", e.frame, err))
	}
}

func (d *driver) count(e effect) {
	d.note(func(s *Stats) {
		switch e.frame {
		case agent.TypeQuiescent:
			s.StillPoints++
		case agent.TypeBusy:
			s.Missed++
		case agent.TypeResumed:
			if r, err := agent.DecodeResumed(e.payload); err == nil && r.Expired {
				s.Expired++
			}
		}
	})
}

func (d *driver) note(f func(*Stats)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.stats)
}
