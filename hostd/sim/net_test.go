package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// path is one direction of the network between two hosts.
type path struct {
	down  bool
	delay time.Duration
}

// network connects the daemons of the world.
type network struct {
	w  *world
	mu sync.Mutex
	// all that was ever connected, so that a change of a path reaches it
	conns []*conn
	paths map[[2]string]*path
}

func (n *network) path(from, to string) *path {
	p := n.paths[[2]string{from, to}]
	if p == nil {
		p = &path{delay: 200 * time.Microsecond}
		n.paths[[2]string{from, to}] = p
	}
	return p
}

// change a path, and let everybody look again.
func (n *network) change(from, to string, f func(*path)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.path(from, to))
	for _, c := range n.conns {
		c.in.signal()
	}
}

// reset breaks every connection between two hosts. What is on its way arrives or
// not.
func (n *network) reset(a, b string) {
	n.mu.Lock()
	var hit []*conn
	for _, c := range n.conns {
		if c.from == a && c.to == b || c.from == b && c.to == a {
			hit = append(hit, c)
		}
	}
	n.mu.Unlock()
	for _, c := range hit {
		c.in.lose(n.w.chance(2))
	}
}

// abandon ends the connections of a daemon that died; silent: its host died, too,
// and nobody is told.
func (n *network) abandon(i *incarnation, silent bool) {
	n.mu.Lock()
	var own []*conn
	for _, c := range n.conns {
		if c.owner == i {
			own = append(own, c)
		}
	}
	n.mu.Unlock()
	for _, c := range own {
		if silent {
			c.out.mute()
		}
		c.Close()
	}
}

func (n *network) isDown(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.path(from, to).down
}

func (n *network) delay(from, to string) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(from, to)
	return p.delay, p.down
}

// dial connects two daemons, unless the network or the other daemon is down.
func (n *network) dial(ctx context.Context, from *incarnation, to string) (net.Conn, error) {
	for {
		there, down := n.delay(from.host.name, to)
		back, mute := n.delay(to, from.host.name)
		if err := sleep(ctx, there+back); err != nil {
			return nil, err
		}
		if from.isDead() {
			return nil, os.ErrClosed
		}
		if !down && !mute {
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	there := n.w.host(to).current()
	if there == nil {
		return nil, errors.New("connection refused")
	}
	mine := &conn{n: n, owner: from, from: from.host.name, to: to}
	theirs := &conn{n: n, owner: there, from: to, to: from.host.name}
	mine.in, mine.out = newStream(n, to, from.host.name), newStream(n, from.host.name, to)
	theirs.in, theirs.out = mine.out, mine.in
	n.mu.Lock()
	n.conns = append(n.conns, mine, theirs)
	n.mu.Unlock()
	if !there.listener.offer(theirs) {
		mine.Close()
		return nil, errors.New("connection refused")
	}
	return mine, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listener of one daemon.
type listener struct {
	accepted chan *conn
	closed   chan struct{}
	once     sync.Once
}

func newListener() *listener {
	return &listener{accepted: make(chan *conn, 64), closed: make(chan struct{})}
}

func (l *listener) offer(c *conn) bool {
	select {
	case <-l.closed:
		return false
	default:
	}
	select {
	case l.accepted <- c:
		return true
	default:
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return address("memory") }

type address string

func (a address) Network() string { return "memory" }
func (a address) String() string  { return string(a) }

// conn is one end of a connection between hosts, or inside one.
type conn struct {
	n        *network
	owner    *incarnation
	from, to string
	in, out  *stream
	closing  sync.Once
}

func (c *conn) Read(b []byte) (int, error) { return c.in.read(b) }

func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }

func (c *conn) Close() error {
	c.closing.Do(func() {
		c.out.end()
		c.in.stop()
	})
	return nil
}

func (c *conn) LocalAddr() net.Addr                { return address(c.from) }
func (c *conn) RemoteAddr() net.Addr               { return address(c.to) }
func (c *conn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { return nil } // a write never waits

// Discard drops what is readable now.
func (c *conn) Discard() error {
	if c.in.discard() {
		return errors.New("QEMU closed the connection")
	}
	return nil
}

// HungUp reports that the other end has closed.
func (c *conn) HungUp() bool { return c.in.hungUp() }

// stream is one direction of a connection. It takes any number of bytes.
type stream struct {
	n        *network // nil inside a host
	from, to string
	mu       sync.Mutex
	chunks   []chunk
	notify   chan struct{}
	deadline time.Time
	stopped  bool // nobody reads any more
	ended    bool // nothing is written any more
	reset    bool // and whoever tries is told so
	muted    bool
}

// chunk is what one write sent, or the end of the stream.
type chunk struct {
	at    time.Time
	bytes []byte
	err   error
}

func newStream(n *network, from, to string) *stream {
	return &stream{n: n, from: from, to: to, notify: make(chan struct{}, 1)}
}

func (s *stream) signal() {
	select {
	case s.notify <- struct{}{}:
	default:
	}
}

func (s *stream) mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = true
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset {
		return 0, syscall.ECONNRESET
	}
	if s.ended || s.stopped && s.n == nil {
		return 0, io.ErrClosedPipe
	}
	s.put(chunk{bytes: append([]byte(nil), b...)})
	return len(b), nil
}

// put with the lock held.
func (s *stream) put(c chunk) {
	if s.muted {
		return
	}
	c.at = time.Now()
	if s.n != nil {
		d, _ := s.n.delay(s.from, s.to)
		c.at = c.at.Add(d)
	}
	if last := len(s.chunks) - 1; last >= 0 && s.chunks[last].at.After(c.at) {
		c.at = s.chunks[last].at
	}
	s.chunks = append(s.chunks, c)
	s.signal()
}

func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.put(chunk{err: io.EOF})
		s.ended = true
	}
}

// lose breaks the stream; what is on its way is lost, too, if all is.
func (s *stream) lose(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		s.chunks = nil
	}
	if !s.ended {
		s.put(chunk{err: syscall.ECONNRESET})
		s.ended, s.reset = true, true
	}
}

func (s *stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.signal()
}

func (s *stream) setDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	s.signal()
}

func (s *stream) read(b []byte) (int, error) {
	for {
		n, wait, err := s.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		if wait == 0 {
			<-s.notify
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-s.notify:
		case <-t.C:
		}
		t.Stop()
	}
}

// take what has arrived; if nothing has, wait says for how long nothing will.
func (s *stream) take(b []byte) (n int, wait time.Duration, err error) {
	down := s.n != nil && s.n.isDown(s.from, s.to)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.stopped:
		return 0, 0, net.ErrClosed
	case !s.deadline.IsZero() && !now.Before(s.deadline):
		return 0, 0, os.ErrDeadlineExceeded
	case len(s.chunks) > 0 && !down && !now.Before(s.chunks[0].at):
		c := &s.chunks[0]
		if c.err != nil {
			return 0, 0, c.err
		}
		n = copy(b, c.bytes)
		if c.bytes = c.bytes[n:]; len(c.bytes) == 0 {
			s.chunks = s.chunks[1:]
		}
		return n, 0, nil
	case len(s.chunks) > 0 && !down:
		wait = s.chunks[0].at.Sub(now)
	}
	if !s.deadline.IsZero() && (wait == 0 || s.deadline.Sub(now) < wait) {
		wait = s.deadline.Sub(now)
	}
	return 0, wait, nil
}

func (s *stream) discard() (ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.chunks) > 0 && s.chunks[0].err == nil {
		s.chunks = s.chunks[1:]
	}
	return s.stopped || len(s.chunks) > 0
}

func (s *stream) hungUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped || len(s.chunks) > 0 && s.chunks[0].err != nil
}

// local makes a connection inside a host.
func local() (a, b *conn) {
	a, b = &conn{from: "a", to: "b"}, &conn{from: "b", to: "a"}
	a.in, a.out = newStream(nil, "", ""), newStream(nil, "", "")
	b.in, b.out = a.out, a.in
	return a, b
}

// view is the network as one daemon sees it.
type view struct{ *incarnation }

func (v view) Dial(ctx context.Context, peer, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := v.host.w.net.dial(ctx, v.incarnation, peer)
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", peer, err)
	}
	return c, nil
}

func (v view) PeerName(c net.Conn) (string, error) { return c.(*conn).to, nil }
