package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// handshakeLimit is how long a peer may take to say who it is.
	handshakeLimit = 5 * time.Second
	// handshakes is how many may be under way at once. For one more the oldest
	// is given up: who belongs here is done in a moment.
	handshakes = 64
)

// Mux shares one port among protocols, which clients name by ALPN (RFC 7301).
// A stranger gets nothing but a failed handshake.
type Mux struct {
	listener  net.Listener
	config    *tls.Config
	log       hclog.Logger
	protocols map[string]*branch
	pending   []net.Conn // handshakes under way, oldest first
	mu        sync.Mutex // guards pending
	owned     sync.WaitGroup
}

// branch is the listener of one protocol.
type branch struct {
	address net.Addr
	conns   chan net.Conn
	done    chan struct{}
	closing sync.Once
}

// NewMux takes the listener's connections once it serves.
func NewMux(l net.Listener, server *tls.Config, log hclog.Logger) *Mux {
	return &Mux{listener: l, config: server, log: log, protocols: map[string]*branch{}}
}

// Listener of a protocol. Call it before Serve. Its connections are *tls.Conn
// that have shaken hands.
func (m *Mux) Listener(protocol string) net.Listener {
	b := &branch{address: m.listener.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	m.protocols[protocol] = b
	return b
}

// Serve until the context ends or the listener fails. It waits for handshakes
// that are under way, and closes the protocols' listeners.
func (m *Mux) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
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

func (m *Mux) accept(ctx context.Context) error {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		m.owned.Go(func() {
			m.begin(conn)
			b, secured, err := m.handshake(ctx, conn)
			m.end(conn)
			if err != nil {
				m.log.Warn("stranger refused", "peer", conn.RemoteAddr(), "error", err)
				conn.Close()
				return
			}
			b.hand(secured)
		})
	}
}

func (m *Mux) begin(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending = append(m.pending, conn); len(m.pending) > handshakes {
		m.pending[0].Close()
		m.pending = m.pending[1:]
	}
}

func (m *Mux) end(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = slices.DeleteFunc(m.pending, func(c net.Conn) bool { return c == conn })
}

func (m *Mux) handshake(ctx context.Context, conn net.Conn) (*branch, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	secured := tls.Server(conn, m.config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	b := m.protocols[secured.ConnectionState().NegotiatedProtocol]
	if b == nil {
		return nil, nil, errors.New("it names no protocol that is spoken here")
	}
	return b, secured, nil
}

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
