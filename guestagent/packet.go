package guestagent

import (
	"sync"
	"sync/atomic"
	"time"
)

// headroom is kept before a received frame, for a header that is put back or
// pushed by the application.
const headroom = 64

// A Packet is a frame in a buffer of the agent's pool. The application may
// change Data, and reslice it within its buffer; it must not keep it after the
// packet was sent or freed. It belongs to one goroutine at a time.
type Packet struct {
	// Data is the frame, from its destination address on, without FCS. A VLAN
	// tag that the kernel took off is in its place again.
	Data []byte
	// Time is when the device received it, as a wall clock in the guest.
	Time time.Time

	buf  []byte
	held bool // by the application
}

// Set makes data the packet's content. It reports false, and changes nothing,
// if data does not fit.
func (p *Packet) Set(data []byte) bool {
	if len(data) > p.Room() {
		return false
	}
	p.Data = p.buf[headroom : headroom+len(data)]
	copy(p.Data, data)
	return true
}

// Room is the longest frame in bytes that fits, headroom apart: Config.BufferSize.
func (p *Packet) Room() int { return len(p.buf) - headroom }

// Push makes room for n bytes in front of Data, with anything in them, and reports whether
// there was enough: in front of a frame as it was received there are at least 60. Data must
// not have been moved out of the packet's buffer.
func (p *Packet) Push(n int) bool {
	start := len(p.buf) - cap(p.Data)
	if n > start {
		return false
	}
	p.Data = p.buf[start-n : start+len(p.Data)]
	return true
}

// reset forgets the content.
func (p *Packet) reset() { p.Data = p.buf[headroom:headroom] }

// pool has all packets that nobody uses. The last one in is the first out: few
// buffers are in use most of the time, and few pages are dirtied.
type pool struct {
	mu      sync.Mutex
	free    []*Packet
	made    int
	limit   int
	size    int // of a buffer, with headroom
	starved atomic.Uint64
}

func newPool(size, limit int) *pool {
	return &pool{size: size + headroom, limit: limit, free: make([]*Packet, 0, limit)}
}

// get moves up to n packets to the end of dst.
func (p *pool) get(dst []*Packet, n int) []*Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range n {
		if last := len(p.free) - 1; last >= 0 {
			dst, p.free = append(dst, p.free[last]), p.free[:last]
		} else if p.made < p.limit {
			p.made++
			dst = append(dst, &Packet{buf: make([]byte, p.size)})
		} else {
			break
		}
	}
	return dst
}

func (p *pool) put(packets []*Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, packets...)
}

const (
	cacheBatch = 32
	cacheLimit = 4 * cacheBatch
)

// cache is a queue's own few packets, so that the pool's lock is taken once in
// a batch at most.
type cache struct {
	pool *pool
	free []*Packet
}

func newCache(p *pool) cache { return cache{p, make([]*Packet, 0, cacheLimit)} }

// reserve makes sure, as far as the pool allows, that n packets are there, and
// says how many are.
func (c *cache) reserve(n int) int {
	if len(c.free) < n {
		c.free = c.pool.get(c.free, min(max(n, cacheBatch), cacheLimit)-len(c.free))
		if len(c.free) < n {
			c.pool.starved.Add(1)
		}
	}
	return min(n, len(c.free))
}

// pop takes a reserved packet.
func (c *cache) pop() *Packet {
	last := len(c.free) - 1
	p := c.free[last]
	c.free = c.free[:last]
	p.reset()
	p.held = true
	return p
}

// unpop puts packets back that were popped and not used.
func (c *cache) unpop(packets []*Packet) {
	for _, p := range packets {
		p.held = false
	}
	c.free = append(c.free, packets...)
}

// push takes packets back from the application.
func (c *cache) push(packets []*Packet) {
	for _, p := range packets {
		if !p.held {
			panic("guestagent: packet sent or freed twice")
		}
		p.held = false
		if len(c.free) == cap(c.free) {
			half := len(c.free) / 2
			c.pool.put(c.free[half:])
			c.free = c.free[:half]
		}
		c.free = append(c.free, p)
	}
}
