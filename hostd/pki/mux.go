package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// handshakeLimit is how long a peer may take to say who it is.
	handshakeLimit = 5 * time.Second
	// mostPending is how many connections may be silent at once, and how many may
	// be amid a handshake. For one more, one is given up: see crowd.
	mostPending = 64
	// acceptPause is how long a port rests that cannot accept for want of files
	// or memory.
	acceptPause = 100 * time.Millisecond
	// warnEvery bounds what strangers can write into the log.
	warnEvery = 10 * time.Second
)

// Mux shares one port among protocols, which clients name by ALPN (RFC 7301).
// A stranger gets nothing but a failed handshake: the connections that it can
// hold, their time and what is logged of them are bounded.
type Mux struct {
	listener  net.Listener
	config    *tls.Config
	log       hclog.Logger
	protocols map[string]*branch
	limit     time.Duration // of a handshake
	most      int           // handshakes under way
	owned     sync.WaitGroup

	mu      sync.Mutex
	pending crowd         // handshakes under way
	warned  time.Time     // when a stranger was last logged
	silent  int           // strangers since, which were not
	serving chan struct{} // closed when Serve has ended; nil before it begins
	end     context.CancelFunc
	closed  bool
}

// branch is the listener of one protocol.
type branch struct {
	address net.Addr
	conns   chan net.Conn
	done    chan struct{}
	closing sync.Once
}

// NewMux takes the listener's connections once it serves. server is an
// Identity's; log may be nil.
func NewMux(l net.Listener, server *tls.Config, log hclog.Logger) *Mux {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Mux{listener: l, config: server, log: log, protocols: map[string]*branch{}, limit: handshakeLimit, most: mostPending}
}

// Listener of a protocol. Call it before Serve, once for each protocol. Its
// connections are *tls.Conn whose handshake is done; to close it refuses its
// protocol and leaves the port to the others. "" is for who names no protocol,
// or one that has no listener.
func (m *Mux) Listener(protocol string) net.Listener {
	b := &branch{address: m.listener.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	m.protocols[protocol] = b
	return b
}

// Serve until the context ends, the Mux is closed or the listener fails; only
// the last is an error. It ends handshakes that are under way, closes the
// protocols' listeners and waits for all that it began; connections that were
// handed out live on. Call it once.
func (m *Mux) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serving := make(chan struct{})
	defer close(serving)
	if !m.start(cancel, serving) {
		cancel()
	}
	stop := context.AfterFunc(ctx, func() { m.listener.Close() })
	err := m.accept(ctx)
	cancel()
	stop()
	m.listener.Close()
	for _, b := range m.protocols {
		b.Close()
	}
	m.owned.Wait()
	return err
}

// start tells whether the Mux is still open.
func (m *Mux) start(end context.CancelFunc, serving chan struct{}) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end, m.serving = end, serving
	return !m.closed
}

// Close ends Serve and waits for it. A Mux that does not serve closes its
// listener only, and never will serve.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	end, serving := m.end, m.serving
	m.mu.Unlock()
	if serving == nil {
		return m.listener.Close()
	}
	end()
	<-serving
	return nil
}

func (m *Mux) accept(ctx context.Context) error {
	for {
		conn, err := m.listener.Accept()
		switch {
		case err == nil:
			k := m.begin(conn)
			m.owned.Go(func() { m.receive(ctx, k) })
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case !passing(err):
			return err
		default:
			m.log.Error("cannot accept connections now", "error", err)
			rest(ctx)
		}
	}
}

// passing tells of a want that may pass.
func passing(err error) bool {
	for _, want := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

func rest(ctx context.Context) {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// receive one connection and hand it on.
func (m *Mux) receive(ctx context.Context, conn *knock) {
	b, secured, err := m.handshake(ctx, conn)
	m.finish(conn)
	if err != nil {
		conn.Close()
		if ctx.Err() == nil {
			m.refused(conn, err)
		}
		return
	}
	b.hand(secured)
}

func (m *Mux) begin(conn net.Conn) *knock {
	k := &knock{Conn: conn, source: sourceOf(conn)}
	k.heard = func() { m.changed(func() *knock { return m.pending.speaks(k, m.most) }) }
	m.changed(func() *knock { return m.pending.enter(k, m.most) })
	return k
}

func (m *Mux) finish(k *knock) {
	m.changed(func() *knock { m.pending.leave(k); return nil })
}

// changed hangs up on whoever has to go for what changes among the pending.
func (m *Mux) changed(change func() *knock) {
	m.mu.Lock()
	goes := change()
	m.mu.Unlock()
	if goes != nil {
		goes.Conn.Close()
	}
}

func (m *Mux) refused(conn net.Conn, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.warned.IsZero() && time.Since(m.warned) < warnEvery {
		m.silent++
		return
	}
	m.log.Warn("stranger refused", "peer", conn.RemoteAddr(), "error", err, "not-logged-before", m.silent)
	m.warned, m.silent = time.Now(), 0
}

func (m *Mux) handshake(ctx context.Context, conn net.Conn) (*branch, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	secured := tls.Server(conn, m.config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	b := m.protocols[secured.ConnectionState().NegotiatedProtocol]
	if b == nil {
		b = m.protocols[""]
	}
	if b == nil {
		return nil, nil, errors.New("it offers no protocol that this server speaks")
	}
	return b, secured, nil
}

// hand a connection to who accepts, or close it when nobody will.
func (b *branch) hand(conn net.Conn) {
	select {
	case b.conns <- conn:
	case <-b.done:
		conn.Close()
	}
}

func (b *branch) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.done:
		return nil, net.ErrClosed
	}
}

func (b *branch) Close() error {
	b.closing.Do(func() { close(b.done) })
	return nil
}

func (b *branch) Addr() net.Addr { return b.address }
