package guestagent

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// nullDevice is the fastest device there can be, so that the gate is a large
// part of a burst. taken counts what left it.
type nullDevice struct {
	info  DeviceInfo
	taken atomic.Uint64
	count bool
}

func newNull(queues int) *nullDevice {
	return &nullDevice{info: DeviceInfo{Name: "null", RxQueues: queues, TxQueues: queues}}
}

func (d *nullDevice) Info() DeviceInfo { return d.info }
func (d *nullDevice) Receive(_ int, packets []*Packet) int {
	if d.count {
		runtime.Gosched() // a receive call takes its time
		d.taken.Add(uint64(len(packets)))
	}
	return len(packets)
}
func (d *nullDevice) Transmit(_ int, packets []*Packet) int { return len(packets) }
func (d *nullDevice) Wait(int, time.Duration) error         { return nil }
func (d *nullDevice) Received() uint64                      { return d.taken.Load() }
func (d *nullDevice) Drops() Drops                          { return Drops{} }
func (d *nullDevice) Close() error                          { return nil }

// waitStill waits for a still point as the agent does.
func waitStill(t testing.TB, g *Gate) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for g.Count() != (Count{}) {
		select {
		case <-g.Changed():
		case <-limit.C:
			t.Fatalf("no still point: %+v", g.Count())
		}
	}
}

// Many queues in all styles at once: run to completion, pipelines in which
// other goroutines send, free and derive, and a queue that nobody polls. At
// each still point nothing may be held, and nothing may leave the device until
// the gate opens.
func TestStillPointsHoldNothing(t *testing.T) {
	const pairs = 4
	d := newNull(2*pairs + 1) // the last queue is never polled
	d.count = true
	g := NewGate()
	port := newPort(d, g, newPool(256, 1<<14))
	var held atomic.Int64 // by the application, as it sees it itself
	stop := make(chan struct{})
	var work sync.WaitGroup
	for i := range pairs {
		work.Add(3)
		pipe := make(chan []*Packet, 4)
		go func() { defer work.Done(); runToCompletion(port, i, &held, stop) }()
		go func() { defer work.Done(); defer close(pipe); receiveInto(port, pairs+i, pipe, &held, stop) }()
		go func() { defer work.Done(); sendFrom(port, pairs+i, pipe, &held) }()
	}
	for round := range 300 {
		g.Close()
		waitStill(t, g)
		before := d.taken.Load()
		for range 20 {
			runtime.Gosched()
		}
		if n, after := held.Load(), d.taken.Load(); n != 0 || after != before {
			t.Errorf("round %d: %d packets held, %d left the device", round, n, after-before)
		}
		g.Open()
		for d.taken.Load() == before {
			runtime.Gosched()
		}
	}
	close(stop)
	work.Wait()
	if c := g.Count(); c != (Count{}) {
		t.Errorf("in the end %+v", c)
	}
}

func done(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func runToCompletion(port *Port, queue int, held *atomic.Int64, stop chan struct{}) {
	packets := make([]*Packet, 32)
	for !done(stop) {
		n := port.RxBurst(queue, packets)
		held.Add(int64(n))
		runtime.Gosched()
		held.Add(int64(-n))
		port.Free(queue, packets[:n/2])
		port.TxBurst(queue, packets[n/2:n])
		if p := port.Alloc(queue); p != nil {
			held.Add(1)
			runtime.Gosched()
			held.Add(-1)
			port.TxBurst(queue, []*Packet{p})
		}
	}
}

func receiveInto(port *Port, queue int, pipe chan []*Packet, held *atomic.Int64, stop chan struct{}) {
	for !done(stop) {
		packets := make([]*Packet, 16)
		n := port.RxBurst(queue, packets)
		held.Add(int64(n))
		if n == 0 {
			runtime.Gosched()
			continue
		}
		pipe <- packets[:n]
	}
}

func sendFrom(port *Port, queue int, pipe chan []*Packet, held *atomic.Int64) {
	for packets := range pipe {
		child := port.Derive(queue, packets[0])
		held.Add(1)
		held.Add(int64(-len(packets)))
		port.TxBurst(queue, packets)
		runtime.Gosched()
		held.Add(-1)
		port.Free(queue, []*Packet{child})
	}
}

// A packet that lives on in its children, handed from queue to queue while the
// gate is closed, is seen in every reading.
func TestCountSeesEveryGeneration(t *testing.T) {
	g := NewGate()
	slots := make([]*Slot, 64)
	for i := range slots {
		slots[i] = g.NewSlot()
	}
	slots[0].Enter()
	slots[0].Leave(1)
	g.Close()
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; !done(stop); i = (i + 37) % len(slots) {
			slots[i].Derived(1)
			slots[(i+11)%len(slots)].Returned(1)
		}
	}()
	for range 20000 {
		if c := g.Count(); c == (Count{}) {
			t.Error("a still point with a packet held")
			break
		}
	}
	close(stop)
	<-ended
}

// A queue inside a receive call holds up the still point; one outside does not.
func TestBusyQueue(t *testing.T) {
	g := NewGate()
	busy, idle := g.NewSlot(), g.NewSlot()
	if !busy.Enter() {
		t.Fatal("open gate refuses")
	}
	g.Close()
	if c := g.Count(); c != (Count{Busy: 1}) {
		t.Errorf("while receiving: %+v", c)
	}
	busy.Leave(3)
	if c := g.Count(); c != (Count{Held: 3}) {
		t.Errorf("after receiving: %+v", c)
	}
	idle.Returned(3) // by another goroutine
	if c := g.Count(); c != (Count{}) {
		t.Errorf("after freeing: %+v", c)
	}
	if busy.Enter() || idle.Enter() || g.NewSlot().Enter() {
		t.Error("closed gate lets in")
	}
	g.Open()
	if !idle.Enter() {
		t.Error("opened gate refuses")
	}
}

func TestBurstsAllocateNothing(t *testing.T) {
	port := newPort(newNull(1), NewGate(), newPool(2048, 1024))
	packets := make([]*Packet, 32)
	port.TxBurst(0, packets[:port.RxBurst(0, packets)])
	forward := func() { port.TxBurst(0, packets[:port.RxBurst(0, packets)]) }
	for range 100 {
		forward()
	}
	if n := testing.AllocsPerRun(1000, forward); n != 0 {
		t.Errorf("%v allocations per burst", n)
	}
}

func TestFreedTwice(t *testing.T) {
	port := newPort(newNull(1), NewGate(), newPool(256, 64))
	packets := make([]*Packet, 1)
	port.RxBurst(0, packets)
	port.Free(0, packets)
	defer func() {
		if recover() == nil {
			t.Error("nothing said")
		}
	}()
	port.Free(0, packets)
}

func TestPoolIsBounded(t *testing.T) {
	port := newPort(newNull(1), NewGate(), newPool(256, 100))
	total := 0
	for {
		n := port.RxBurst(0, make([]*Packet, 32))
		if n == 0 {
			break
		}
		total += n
	}
	if total != 100 {
		t.Errorf("%d packets of 100", total)
	}
}

// ungated is the same work as a port's, without the gate.
func ungated(d Device, rx, tx *cache, packets []*Packet) {
	n := rx.reserve(len(packets))
	for i := range packets[:n] {
		packets[i] = rx.pop()
	}
	n = d.Receive(0, packets[:n])
	n = d.Transmit(0, packets[:n])
	tx.push(packets[:n])
}

// BenchmarkGate measures gated and ungated bursts in turns on the null device,
// the worst case, and reports the ratio of their times with its spread over
// the turns, and what the gate costs.
func BenchmarkGate(b *testing.B) {
	for _, size := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("burst=%d", size), func(b *testing.B) { benchmarkGate(b, size) })
	}
}

func benchmarkGate(b *testing.B, size int) {
	const turns = 15
	pool := newPool(2048, 4096)
	d := newNull(1)
	var device Device = d
	port := newPort(device, NewGate(), pool)
	rx, tx := newCache(pool), newCache(pool)
	packets := make([]*Packet, size)
	each := max(b.N/turns, 1)
	var ratios, costs []float64
	b.ReportAllocs()
	b.ResetTimer()
	for range turns {
		start := time.Now()
		for range each {
			ungated(device, &rx, &tx, packets)
		}
		plain := time.Since(start)
		start = time.Now()
		for range each {
			port.TxBurst(0, packets[:port.RxBurst(0, packets)])
		}
		gated := time.Since(start)
		ratios = append(ratios, float64(gated)/float64(plain))
		costs = append(costs, float64(gated-plain)/float64(each))
	}
	slices.Sort(ratios)
	slices.Sort(costs)
	b.ReportMetric(ratios[turns/2], "ratio-p50")
	b.ReportMetric(ratios[1], "ratio-low")
	b.ReportMetric(ratios[turns-2], "ratio-high")
	b.ReportMetric(costs[turns/2], "gate-ns/burst")
}

// BenchmarkGateScales runs one queue per processor: slots share no cache line.
func BenchmarkGateScales(b *testing.B) {
	var next atomic.Int64
	port := newPort(newNull(runtime.GOMAXPROCS(0)), NewGate(), newPool(2048, 4096))
	b.RunParallel(func(pb *testing.PB) {
		queue := int(next.Add(1)-1) % len(port.rx)
		packets := make([]*Packet, 32)
		for pb.Next() {
			port.TxBurst(queue, packets[:port.RxBurst(queue, packets)])
		}
	})
}
