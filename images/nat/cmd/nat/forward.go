package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/guestagent"
	"github.com/stillpoint-ft/stillpoint/images/nat"
)

// Transmit queues of a port: one for each goroutine that sends.
const (
	keeperQueue = 2 // the first two are the ports' own loops
	queues      = 3
	burst       = 64
	ringSlots   = 4096
	patience    = 50 * time.Millisecond // with a full card
	attempts    = 200
)

// forwarder runs the NAT to completion on both ports; a third goroutine keeps
// what time makes due.
type forwarder struct {
	agent     *guestagent.Agent
	log       hclog.Logger
	ports     [2]*guestagent.Port
	started   time.Time
	takenOver chan struct{}

	mu      sync.Mutex
	nat     *nat.NAT
	notSent uint64 // packets that a full card did not take
}

func (f *forwarder) now() time.Duration { return time.Since(f.started) }

// onTakeover runs while the gate is closed: it may not send yet.
func (f *forwarder) onTakeover(t guestagent.Takeover) {
	f.log.Info("taken over", "generation", t.Generation)
	select {
	case f.takenOver <- struct{}{}:
	default:
	}
}

func (f *forwarder) run(ctx context.Context, stats time.Duration) error {
	failed := make(chan error, len(f.ports))
	var wg sync.WaitGroup
	for i := range f.ports {
		wg.Add(1)
		go func() {
			defer wg.Done()
			failed <- f.loop(nat.Port(i))
		}()
	}
	done, end := context.WithCancel(ctx)
	wg.Add(1)
	go func() {
		defer wg.Done()
		f.keep(done, stats)
	}()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	end()
	f.agent.Close()
	wg.Wait()
	if errors.Is(err, guestagent.ErrClosed) {
		return nil
	}
	return err
}

// loop receives on one port and sends what the NAT makes of it.
func (f *forwarder) loop(from nat.Port) error {
	w := &worker{f: f, queue: int(from), own: f.ports[from]}
	packets := make([]*guestagent.Packet, burst)
	for {
		n, err := w.own.RxWait(0, packets, -1)
		if err != nil {
			return err
		}
		w.handle(from, packets[:n])
	}
}

// worker collects what one goroutine sends and frees in a burst.
type worker struct {
	f      *forwarder
	queue  int
	own    *guestagent.Port
	out    []nat.Output
	toSend [2][]*guestagent.Packet
	toFree []*guestagent.Packet
}

func (w *worker) handle(from nat.Port, packets []*guestagent.Packet) {
	w.f.mu.Lock()
	now := w.f.now()
	for _, p := range packets {
		w.out = w.f.nat.Process(now, from, p.Data, w.out[:0])
		w.collect(p)
	}
	// Sent under the lock: what leaves one port keeps the order of its stamps.
	w.flush()
	w.f.mu.Unlock()
}

// collect turns the NAT's output into packets. A forwarded frame is the
// received packet itself; the NAT's own frames are made on its account.
func (w *worker) collect(p *guestagent.Packet) {
	forwarded := false
	for _, o := range w.out {
		if len(o.Frame) > 0 && len(p.Data) > 0 && &o.Frame[0] == &p.Data[0] {
			p.Data = o.Frame
			w.toSend[o.Port] = append(w.toSend[o.Port], p)
			forwarded = true
			continue
		}
		if own := w.own.Derive(w.queue, p); own != nil {
			w.add(o, own)
		}
	}
	if !forwarded {
		w.toFree = append(w.toFree, p)
	}
}

func (w *worker) add(o nat.Output, p *guestagent.Packet) {
	if p.Set(o.Frame) {
		w.toSend[o.Port] = append(w.toSend[o.Port], p)
		return
	}
	w.toFree = append(w.toFree, p)
}

// flush sends in order. A full card is waited for, but not for long; what it
// does not take then is dropped and counted.
func (w *worker) flush() {
	for i, packets := range w.toSend {
		packets = packets[w.f.ports[i].TxBurst(w.queue, packets):]
		for try := 0; len(packets) > 0 && try < attempts; try++ {
			time.Sleep(patience / attempts)
			packets = packets[w.f.ports[i].TxBurst(w.queue, packets):]
		}
		w.f.notSent += uint64(len(packets))
		w.toFree = append(w.toFree, packets...)
		w.toSend[i] = w.toSend[i][:0]
	}
	if len(w.toFree) > 0 {
		w.own.Free(w.queue, w.toFree)
		w.toFree = w.toFree[:0]
	}
}

// keep lets time pass for the NAT, and announces it after a takeover.
func (f *forwarder) keep(ctx context.Context, stats time.Duration) {
	w := &worker{f: f, queue: keeperQueue, own: f.ports[nat.In]}
	tick := time.NewTimer(0)
	defer tick.Stop()
	report := make(<-chan time.Time)
	if stats > 0 {
		t := time.NewTicker(stats)
		defer t.Stop()
		report = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tick.Reset(w.originate(f.nat.Tick))
		case <-f.takenOver:
			f.awaitOpen(ctx)
			w.originate(f.nat.Announce)
			f.print()
		case <-report:
			f.print()
		}
	}
}

func (f *forwarder) awaitOpen(ctx context.Context) {
	select {
	case <-f.agent.Gate().Opened():
	case <-ctx.Done():
	}
}

// originate sends frames that are the NAT's own idea. While the gate is closed
// they are not made: the NAT asks again.
func (w *worker) originate(make func(time.Duration, []nat.Output) []nat.Output) time.Duration {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	w.out = make(w.f.now(), w.out[:0])
	for _, o := range w.out {
		if p := w.own.Alloc(w.queue); p != nil {
			w.add(o, p)
		}
	}
	w.flush()
	return max(w.f.nat.Wait(), time.Millisecond)
}

func (f *forwarder) print() {
	f.mu.Lock()
	s, notSent := f.nat.Stats(), f.notSent
	f.mu.Unlock()
	fmt.Printf("NAT: forwarded %v, flows %d, stamps %d", s.Forwarded, s.Flows, s.Stamps)
	for _, reason := range nat.Drops() {
		if n := s.Drops[reason]; n > 0 {
			fmt.Printf(", %v %d", reason, n)
		}
	}
	for _, port := range f.ports {
		p := port.Stats()
		fmt.Printf("; %s: %+v", port.Info().Name, p)
	}
	fmt.Printf("; not sent %d\n", notSent)
}
