package arbiter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// front stands before a member's ports. etcd would take as many connections as
// come, for as long as they are silent; here only those whose handshake is done
// reach it, over sockets in the member's own directory.
type front struct {
	dir   *os.File
	doors []*door
	ctx   context.Context
	end   context.CancelFunc
	owned sync.WaitGroup
}

// door is one port.
type door struct {
	mux   *pki.Mux
	conns net.Listener
	inner string
}

// openFront listens at the member's addresses, and makes etcd listen behind.
func (o MemberOptions) openFront(cfg *embed.Config) (_ *front, err error) {
	f := &front{}
	f.ctx, f.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.dir, err = os.Open(o.Dir); err != nil {
		return nil, err
	}
	server, err := cfg.PeerTLSInfo.ServerConfig()
	if err != nil {
		return nil, err
	}
	server.MinVersion = tls.VersionTLS13
	if cfg.ListenPeerUrls, err = f.open(o, o.Peer, "peer", server); err != nil {
		return nil, err
	}
	clients := server.Clone()
	clients.NextProtos = []string{"h2", "http/1.1"}
	cfg.ListenClientUrls, err = f.open(o, o.Client, "client", clients)
	return f, err
}

// open a port; it returns where etcd is to listen. The name of a socket may be
// 107 bytes long, whatever the directory's is.
func (f *front) open(o MemberOptions, address, name string, server *tls.Config) ([]url.URL, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := pki.NewMux(l, server, o.Log)
	d := &door{mux: mux, conns: mux.Listener(""), inner: fmt.Sprintf("/proc/self/fd/%d/%s", f.dir.Fd(), name)}
	f.doors = append(f.doors, d)
	return []url.URL{{Scheme: "unix", Host: d.inner}}, nil // for peers etcd takes the host alone
}

// serve until close. It returns at once.
func (f *front) serve() {
	for _, d := range f.doors {
		f.owned.Go(func() { _ = d.mux.Serve(f.ctx) }) // its end ends the member's part soon enough
		f.owned.Go(func() {
			for {
				conn, err := d.conns.Accept()
				if err != nil {
					return
				}
				f.owned.Go(func() { f.pass(conn, d.inner) })
			}
		})
	}
}

// pass on what a peer and etcd say to each other.
func (f *front) pass(conn net.Conn, inner string) {
	defer conn.Close()
	etcd, err := net.Dial("unix", inner)
	if err != nil {
		return
	}
	defer etcd.Close()
	stop := context.AfterFunc(f.ctx, func() { conn.Close(); etcd.Close() })
	defer stop()
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(conn, etcd)
		conn.Close() // etcd has hung up
		etcd.Close()
	}()
	io.Copy(etcd, conn)
	etcd.Close()
	conn.Close()
	<-back
}

// close ends all connections. It waits for what was begun.
func (f *front) close() error {
	if f == nil {
		return nil
	}
	f.end()
	var failed error
	for _, d := range f.doors {
		failed = errors.Join(failed, d.mux.Close())
	}
	f.owned.Wait()
	if f.dir != nil {
		failed = errors.Join(failed, f.dir.Close())
	}
	return failed
}
