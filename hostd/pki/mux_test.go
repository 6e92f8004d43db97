package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
	"github.com/stillpoint-ft/stillpoint/e2e/loopback"
)

// port is a Mux of host b that serves until the test ends.
type port struct {
	*Mux
	dir     string
	address string
	log     *journal.Journal
	served  chan error
	stop    context.CancelFunc
}

// serve starts a Mux after prepare has had it. It greets on "greet" with the
// peer's name.
func serve(t *testing.T, prepare func(*Mux)) *port {
	t.Helper()
	dir := authorityOf(t, "a", "b")
	l := listen(t)
	p := &port{dir: dir, address: l.Addr().String(), log: &journal.Journal{}, served: make(chan error, 1)}
	p.Mux = NewMux(l, load(t, dir, "b", Options{}).Server("greet", "unused", "h2"), p.log.Logger())
	greetings := p.Listener("greet")
	if prepare != nil {
		prepare(p.Mux)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	var owned sync.WaitGroup
	owned.Go(func() { greet(t, greetings) })
	owned.Go(func() { p.served <- p.Serve(ctx) })
	t.Cleanup(func() { stop(); owned.Wait() })
	return p
}

func greet(t *testing.T, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			return
		}
		name, err := PeerName(conn.(*tls.Conn).ConnectionState())
		if err != nil {
			t.Error(err)
		}
		conn.Write([]byte("hello " + name))
		conn.Close()
	}
}

// call the port with a configuration and return all that comes back.
func (p *port) call(config *tls.Config) (string, error) {
	dialer := tls.Dialer{Config: config, NetDialer: &net.Dialer{Timeout: patience}}
	conn, err := dialer.Dial("tcp", p.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(conn)
	return string(b), err
}

// greeted fails the test unless host a gets through.
func (p *port) greeted(t *testing.T) {
	t.Helper()
	if got, err := p.call(load(t, p.dir, "a", Options{}).Client("b", "greet")); got != "hello a" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
}

func (p *port) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ended waits until the other side has ended a connection, and returns what
// came before.
func ended(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
	return b
}

func (p *port) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func (p *port) pendingNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending.size()
}

func TestMuxStrangers(t *testing.T) {
	p := serve(t, func(m *Mux) { m.limit = 300 * time.Millisecond })
	strange := load(t, authorityOf(t, "a", "b"), "a", Options{})
	own := load(t, p.dir, "a", Options{})
	strangersTLS := map[string]*tls.Config{
		"no certificate":    {InsecureSkipVerify: true, NextProtos: []string{"greet"}},
		"another authority": strange.Client("b", "greet"),
		"TLS 1.2":           {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{"greet"}},
		"no protocol":       own.Client("b"),
		"unknown protocol":  own.Client("b", "bogus"),
	}
	strangersTLS["another authority"].VerifyConnection = nil
	for name, config := range strangersTLS {
		if got, err := p.call(config); got != "" || (err == nil && name != "no protocol") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, says := range map[string]string{
		"silent": "", "garbage": "\x00\x01\x02garbage", "HTTP": "GET / HTTP/1.1\r\n\r\n",
		"half a hello": "\x16\x03\x01\x02\x00\x01", "a long hello": "\x16\x03\x01\x40\x00\x01\xff\xff\xff",
	} {
		conn := p.dial(t)
		io.WriteString(conn, says)
		if got := ended(t, conn); len(got) > 7 { // an alert: RFC 8446, 5.1 and 6
			t.Errorf("%s: got %q", name, got)
		}
	}
	p.dial(t).Close()
	p.greeted(t)
}

// TestMuxManyStrangers: good peers get through however many strangers hold on,
// and the strangers do not pile up.
func TestMuxManyStrangers(t *testing.T) {
	p := serve(t, nil)
	var conns []net.Conn
	for range 3 * mostPending {
		conns = append(conns, p.dial(t))
	}
	p.eventually(t, "full", func() bool { return p.pendingNow() == mostPending })
	for range 10 {
		p.greeted(t)
		conns = append(conns, p.dial(t))
	}
	if n := p.pendingNow(); n > mostPending {
		t.Errorf("%d handshakes are under way", n)
	}
	for _, c := range conns[:2*mostPending] {
		if got := ended(t, c); len(got) > 0 {
			t.Errorf("a stranger got %q", got)
		}
	}
	// One is logged, and on a slow machine one or two more.
	p.eventually(t, "logged", func() bool { return p.log.Count("stranger refused") > 0 })
	if n := p.log.Count("stranger refused"); n > 3 {
		t.Errorf("%d warnings", n)
	}
	p.stop()
	if err := <-p.served; err != nil {
		t.Error(err)
	}
	for _, c := range conns {
		ended(t, c)
	}
	if n := p.pendingNow(); n != 0 {
		t.Errorf("%d handshakes are under way after the end", n)
	}
}

// TestMuxListenerClosed: one protocol ends, the others go on.
func TestMuxListenerClosed(t *testing.T) {
	var unused net.Listener
	p := serve(t, func(m *Mux) { unused = m.Listener("unused") })
	a := load(t, p.dir, "a", Options{})
	waiting := make(chan error, 1)
	go func() {
		_, err := p.call(a.Client("b", "unused"))
		waiting <- err
	}()
	conn, err := unused.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-waiting
	unused.Close()
	if _, err := unused.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if got, _ := p.call(a.Client("b", "unused")); got != "" {
		t.Errorf("got %q", got)
	}
	p.greeted(t)
}

// TestMuxEndsWithoutAcceptance: a good peer that nobody accepts does not hold
// up the end.
func TestMuxEndsWithoutAcceptance(t *testing.T) {
	p := serve(t, func(m *Mux) { m.Listener("unused") })
	dialer := tls.Dialer{Config: load(t, p.dir, "a", Options{}).Client("b", "unused")}
	conn, err := dialer.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.dial(t) // silent
	p.eventually(t, "one is silent, one waits", func() bool { return p.pendingNow() == 1 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-p.served; err != nil {
		t.Error(err)
	}
	ended(t, conn)
	if err := p.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestMuxClosedBeforeServing(t *testing.T) {
	m := NewMux(listen(t), &tls.Config{}, nil)
	l := m.Listener("x")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Serve(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// poor fails to accept before it does.
type poor struct {
	net.Listener
	fail chan error
}

func (p *poor) Accept() (net.Conn, error) {
	select {
	case err := <-p.fail:
		return nil, err
	default:
		return p.Listener.Accept()
	}
}

func TestMuxOutlivesWant(t *testing.T) {
	p := serve(t, func(m *Mux) {
		fail := make(chan error, 1)
		fail <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		m.listener = &poor{m.listener, fail}
	})
	p.greeted(t)
	if p.log.Count("cannot accept") != 1 {
		t.Error("the want was not logged")
	}
}

func TestMuxFails(t *testing.T) {
	broken := errors.New("broken")
	p := serve(t, func(m *Mux) {
		fail := make(chan error, 1)
		fail <- broken
		m.listener = &poor{m.listener, fail}
	})
	if err := <-p.served; !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// health answers with success to host a only.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	t *testing.T
}

func (h health) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if err := credentials.CheckSecurityLevel(p.AuthInfo, credentials.PrivacyAndIntegrity); !ok || err != nil {
		h.t.Errorf("%T: %v", p.AuthInfo, err)
	}
	if name, err := PeerName(info.State); name != "a" || err != nil {
		h.t.Errorf("got %q, %v", name, err)
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func TestMuxWithGRPC(t *testing.T) {
	server := grpc.NewServer(grpc.Creds(AlreadySecure()))
	grpc_health_v1.RegisterHealthServer(server, health{t: t})
	var remote net.Listener
	p := serve(t, func(m *Mux) { remote = m.Listener("h2") })
	served := make(chan error, 1)
	go func() { served <- server.Serve(remote) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	}()
	ask := func(c credentials.TransportCredentials) error {
		conn, err := grpc.NewClient("passthrough:///"+p.address, grpc.WithTransportCredentials(c))
		if err != nil {
			return err
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	if err := ask(credentials.NewTLS(load(t, p.dir, "a", Options{}).Client("b"))); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]credentials.TransportCredentials{
		"plain": insecure.NewCredentials(), "no certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
	} {
		if err := ask(c); err == nil {
			t.Errorf("%s was served", name)
		}
	}
	p.greeted(t)
}

func TestAlreadySecureRefuses(t *testing.T) {
	near, far := loopback.Pair(t)
	for name, conn := range map[string]net.Conn{"plain": near, "no handshake": tls.Server(far, &tls.Config{})} {
		if _, _, err := AlreadySecure().ServerHandshake(conn); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := AlreadySecure().ClientHandshake(t.Context(), "b", near); err == nil {
		t.Error("they serve as a client's")
	}
}

// piped is a listener of connections that a test sends.
type piped struct {
	conns   chan net.Conn
	done    chan struct{}
	closing sync.Once
}

func (p *piped) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error {
	p.closing.Do(func() { close(p.done) })
	return nil
}

func (p *piped) Addr() net.Addr { return &net.TCPAddr{} }

// reluctant closes only when it is released.
type reluctant struct {
	net.Conn
	release chan struct{}
}

func (r reluctant) Close() error {
	<-r.release
	return r.Conn.Close()
}

// TestMuxWaits: neither Serve nor Close returns before all handshakes are over.
func TestMuxWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		l, release := &piped{conns: make(chan net.Conn), done: make(chan struct{})}, make(chan struct{})
		m := NewMux(l, &tls.Config{}, nil)
		served, closed := make(chan error, 1), make(chan error, 1)
		go func() { served <- m.Serve(t.Context()) }()
		l.conns <- reluctant{far, release}
		synctest.Wait()
		go func() { closed <- m.Close() }()
		synctest.Wait()
		if len(served) > 0 || len(closed) > 0 {
			t.Errorf("a handshake is under way; Serve has returned: %v, Close: %v", len(served) > 0, len(closed) > 0)
		}
		close(release)
		synctest.Wait()
		if len(served) != 1 || len(closed) != 1 {
			t.Error("Serve or Close does not return")
		}
	})
}
