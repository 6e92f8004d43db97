package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// Protocols that share the daemon's port, by their ALPN names (RFC 7301).
const (
	protocolReplica = "stillpoint-replica"
	protocolControl = "h2" // gRPC
)

const dialLimit = 5 * time.Second

// Identity proves who this host is, and knows its peers.
type Identity interface {
	Server(protocols ...string) *tls.Config
	Client(host string, protocols ...string) *tls.Config
}

// Network connects hosts that have proven who they are.
type Network interface {
	// Dial connects to a peer's replica port. Whoever answers must prove that it
	// is the peer.
	Dial(ctx context.Context, peer, address string) (net.Conn, error)
	// PeerName is the peer that a connection comes from.
	PeerName(conn net.Conn) (string, error)
}

// overTLS is TLS over TCP.
type overTLS struct{ identity Identity }

func (s overTLS) Dial(ctx context.Context, peer, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	dialer := tls.Dialer{Config: s.identity.Client(peer, protocolReplica)}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to host %s at %s: %w", peer, address, err)
	}
	return conn, nil
}

func (overTLS) PeerName(conn net.Conn) (string, error) {
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return "", fmt.Errorf("the connection is not secured")
	}
	return pki.PeerName(secured.ConnectionState())
}

// knownPeer is the peer that a connection comes from, which the configuration
// must name.
func (d *Daemon) knownPeer(conn net.Conn) (string, error) {
	name, err := d.network.PeerName(conn)
	if err == nil {
		_, err = d.peerAddress(name)
	}
	return name, err
}
