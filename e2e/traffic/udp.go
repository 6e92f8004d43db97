package traffic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

const (
	maxDatagram  = 2048
	maxStreams   = 64      // a server's memory of answered requests
	maxSeq       = 1 << 24 // per stream
	socketBuffer = 4 << 20 // bytes; a burst after a blackout must fit
)

// UDPServer records probe requests and answers each once: a request that comes
// again is recorded again and not answered.
type UDPServer struct {
	conn     *net.UDPConn
	recorder *Recorder
	answered map[uint32][]uint64 // bit sets by stream
	refused  atomic.Uint64
	done     sync.WaitGroup
}

// StartUDPServer listens inside a namespace until Close.
func StartUDPServer(namespace string, listen netip.AddrPort, r *Recorder) (*UDPServer, error) {
	s := &UDPServer{recorder: r, answered: map[uint32][]uint64{}}
	err := In(namespace, func() (err error) {
		s.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe server: listen on %v: %w", listen, err)
	}
	enlarge(s.conn)
	s.done.Add(1)
	go s.run()
	return s, nil
}

// enlarge the receive buffer, past what the machine allows those who are not root.
func enlarge(c *net.UDPConn) {
	c.SetReadBuffer(socketBuffer)
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		})
	}
}

// Addr is the address that the server listens on.
func (s *UDPServer) Addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Refused counts datagrams that are no valid probe request, and answers that the
// kernel did not take.
func (s *UDPServer) Refused() uint64 { return s.refused.Load() }

// Close stops the server and waits for it.
func (s *UDPServer) Close() error {
	err := s.conn.Close()
	s.done.Wait()
	return err
}

func (s *UDPServer) run() {
	defer s.done.Done()
	in, out := make([]byte, maxDatagram), make([]byte, 0, maxDatagram)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p, bad := probe.Decode(in[:n])
		if err != nil || bad != nil || p.Direction != probe.Request {
			s.refused.Add(1)
			continue
		}
		s.recorder.received(p)
		if !s.firstTime(p) {
			continue
		}
		p.Direction, p.Echo, p.Stamp = probe.Reply, p.Stamp, 0
		p.Sent = time.Now().UnixNano()
		out = append(p.Append(out[:0]), in[probe.HeaderLen:n]...)
		s.recorder.sent(p)
		if _, err := s.conn.WriteToUDPAddrPort(out, from); err != nil {
			s.refused.Add(1)
		}
	}
}

// firstTime notes a request and says whether it is new. Requests out of bounds
// never are.
func (s *UDPServer) firstTime(p probe.Packet) bool {
	bits, known := s.answered[p.Stream]
	if p.Seq >= maxSeq || !known && len(s.answered) >= maxStreams {
		s.refused.Add(1)
		return false
	}
	word, bit := int(p.Seq/64), uint64(1)<<(p.Seq%64)
	if word >= len(bits) {
		bits = append(bits, make([]uint64, word+1-len(bits))...)
		s.answered[p.Stream] = bits
	}
	if bits[word]&bit != 0 {
		return false
	}
	bits[word] |= bit
	return true
}

// UDPClientOptions describe a stream of requests.
type UDPClientOptions struct {
	Server  netip.AddrPort
	Stream  uint32
	Rate    int           // requests per second, 1 to 20,000
	Limit   uint64        // stop after this many; 0 = at 16 million
	Padding int           // bytes beyond the header, at most 1400
	Linger  time.Duration // how long Stop waits for outstanding replies; default 2 s
}

func (o *UDPClientOptions) fill() error {
	if o.Rate < 1 || o.Rate > 20000 || o.Padding < 0 || o.Padding > 1400 {
		return fmt.Errorf("probe client: rate %d per second or padding of %d bytes out of range", o.Rate, o.Padding)
	}
	if o.Limit == 0 || o.Limit > maxSeq {
		o.Limit = maxSeq
	}
	if o.Linger == 0 {
		o.Linger = 2 * time.Second
	}
	return nil
}

// UDPClient sends numbered requests at a steady rate and records the replies.
type UDPClient struct {
	options  UDPClientOptions
	conn     *net.UDPConn
	recorder *Recorder
	stop     chan struct{}
	stopOnce sync.Once
	sender   sync.WaitGroup
	reader   sync.WaitGroup
	progress chan struct{} // a token after each reply
	sent     atomic.Uint64
	replied  atomic.Uint64
	failed   atomic.Uint64
}

// StartUDPClient starts sending from inside a namespace.
func StartUDPClient(namespace string, o UDPClientOptions, r *Recorder) (*UDPClient, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	c := &UDPClient{options: o, recorder: r, stop: make(chan struct{}), progress: make(chan struct{}, 1)}
	err := In(namespace, func() (err error) {
		c.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(o.Server))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe client: open a socket to %v: %w", o.Server, err)
	}
	enlarge(c.conn)
	c.sender.Add(1)
	c.reader.Add(1)
	go c.send()
	go c.read()
	return c, nil
}

// Sent is how many requests have been sent.
func (c *UDPClient) Sent() uint64 { return c.sent.Load() }

// Replied is how many replies have arrived, duplicates included.
func (c *UDPClient) Replied() uint64 { return c.replied.Load() }

// Failed counts requests that the kernel did not take (no route, no neighbour):
// they are recorded as sent, and lost.
func (c *UDPClient) Failed() uint64 { return c.failed.Load() }

// Stop ends the sending, waits until as many replies as requests are there or no
// reply has come for Linger, and closes the client.
func (c *UDPClient) Stop() error {
	c.stopOnce.Do(func() { close(c.stop) })
	c.sender.Wait()
	patience := time.NewTimer(c.options.Linger)
	defer patience.Stop()
	for waiting := true; waiting && c.replied.Load() < c.sent.Load(); {
		select {
		case <-c.progress:
			patience.Reset(c.options.Linger)
		case <-patience.C:
			waiting = false
		}
	}
	err := c.conn.Close()
	c.reader.Wait()
	return err
}

// send keeps to the schedule of the clock: after a hiccup the requests that are
// due go out together.
func (c *UDPClient) send() {
	defer c.sender.Done()
	begin := time.Now()
	step := time.Second / time.Duration(c.options.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	packet := make([]byte, 0, maxDatagram)
	for seq := uint64(0); seq < c.options.Limit; {
		select {
		case <-c.stop:
			return
		case <-timer.C:
		}
		for due := uint64(time.Since(begin)/step) + 1; seq < due && seq < c.options.Limit; seq++ {
			packet = c.request(packet, seq)
		}
		timer.Reset(time.Until(begin.Add(time.Duration(seq) * step)))
	}
}

func (c *UDPClient) request(buffer []byte, seq uint64) []byte {
	p := probe.Packet{Stream: c.options.Stream, Direction: probe.Request, Seq: seq, Sent: time.Now().UnixNano()}
	buffer = p.Append(buffer[:0])
	buffer = append(buffer, padding[:c.options.Padding]...)
	c.recorder.sent(p)
	c.sent.Add(1)
	if _, err := c.conn.Write(buffer); err != nil {
		c.failed.Add(1)
	}
	return buffer
}

var padding [1400]byte

func (c *UDPClient) read() {
	defer c.reader.Done()
	in := make([]byte, maxDatagram)
	for {
		n, err := c.conn.Read(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP error that somebody sent: the stream goes on
			continue
		}
		p, err := probe.Decode(in[:n])
		if err != nil || p.Direction != probe.Reply || p.Stream != c.options.Stream {
			continue
		}
		c.recorder.received(p)
		c.replied.Add(1)
		select {
		case c.progress <- struct{}{}:
		default:
		}
	}
}
