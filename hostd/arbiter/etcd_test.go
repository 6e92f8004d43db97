package arbiter

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soon bounds what must not take long, even on a busy machine.
func soon(t *testing.T) context.Context {
	return within(t, time.Minute)
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func openEtcd(t *testing.T, o EtcdOptions) *Etcd {
	t.Helper()
	a, err := OpenEtcd(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// proxy stands between a client and a member.
type proxy struct {
	listener net.Listener
	to       string
	// mute swallows what the member answers.
	mute atomic.Bool
	// muteOn mutes it when a client sends this.
	muteOn []byte

	mu    sync.Mutex
	conns []net.Conn
	owned sync.WaitGroup
}

func startProxy(t *testing.T, to string, muteOn string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, muteOn: []byte(muteOn)}
	p.owned.Go(p.accept)
	t.Cleanup(func() { l.Close(); p.cut(); p.owned.Wait() })
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.owned.Go(func() { p.requests(near, far) })
		p.owned.Go(func() { p.answers(near, far) })
	}
}

func (p *proxy) requests(near, far net.Conn) {
	defer far.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := near.Read(b)
		if err != nil {
			return
		}
		if len(p.muteOn) > 0 && bytes.Contains(b[:n], p.muteOn) {
			p.mute.Store(true)
		}
		far.Write(b[:n])
	}
}

func (p *proxy) answers(near, far net.Conn) {
	defer near.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := far.Read(b)
		if err != nil {
			return
		}
		if !p.mute.Load() {
			near.Write(b[:n])
		}
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func TestAClaimWhoseAnswerIsLostOnTheWireIsAnsweredLater(t *testing.T) {
	t.Parallel()
	_, endpoint := startAlone(t)
	// The read is answered, the transaction, which carries a token, is not.
	p := startProxy(t, endpoint, `"claim":"`)
	a := openEtcd(t, EtcdOptions{Endpoints: []string{p.address()}})
	other := openEtcd(t, EtcdOptions{Endpoints: []string{endpoint}})
	claim := Record{Machine: "nat", Voice: "a", Standby: "b", Kind: "pair"}
	if _, err := a.TestAndSet(within(t, 5*time.Second), 0, claim); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without an answer: %v", err)
	}
	stands, err := other.Current(soon(t), "nat")
	if err != nil || stands.Voice != "a" {
		t.Fatalf("it did not win: %+v, %v", stands, err)
	}
	// While nothing is heard the claim stays unknown.
	if _, err := a.TestAndSet(within(t, 300*time.Millisecond), 0, claim); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("repeated without an answer: %v", err)
	}
	if w := lose(t, other, 0, claim); w != stands {
		t.Errorf("lost to %+v", w)
	}
	p.mute.Store(false)
	p.cut()
	if won := win(t, a, 0, claim); won != stands {
		t.Errorf("won %+v, but %+v stands", won, stands)
	}
	lose(t, a, 0, claim)
	if len(a.unanswered) != 0 {
		t.Errorf("remembered: %v", a.unanswered)
	}
}

func TestAMemberThatHangsIsPassedOver(t *testing.T) {
	t.Parallel()
	_, endpoint := startAlone(t)
	hung := startProxy(t, endpoint, "")
	hung.mute.Store(true)
	both := openEtcd(t, EtcdOptions{Endpoints: []string{hung.address(), endpoint}})
	for g := range uint64(4) {
		win(t, both, g, Record{Machine: "nat", Voice: "a"})
	}
	alone := openEtcd(t, EtcdOptions{Endpoints: []string{hung.address()}})
	begin := time.Now()
	_, err := alone.Current(within(t, 500*time.Millisecond), "nat")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), hung.address()) {
		t.Error(err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAConnectionIsSoonMadeAnew(t *testing.T) {
	t.Parallel()
	_, endpoint := startAlone(t)
	p := startProxy(t, endpoint, "")
	a := openEtcd(t, EtcdOptions{Endpoints: []string{p.address()}})
	for g := range uint64(5) {
		p.cut()
		begin := time.Now()
		win(t, a, g, Record{Machine: "nat", Voice: "a"})
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

func TestPrefixesAreApart(t *testing.T) {
	t.Parallel()
	_, endpoint := startAlone(t)
	one := openEtcd(t, EtcdOptions{Endpoints: []string{endpoint}})
	two := openEtcd(t, EtcdOptions{Endpoints: []string{"http://" + endpoint}, Prefix: "/two/"})
	mine := win(t, one, 0, Record{Machine: "nat", Voice: "a"})
	win(t, two, 0, Record{Machine: "nat", Voice: "b"})
	if r, err := one.Current(soon(t), "nat"); err != nil || r != mine {
		t.Errorf("%+v, %v", r, err)
	}
	found, err := one.client.Get(soon(t), DefaultPrefix+"machines/nat")
	if err != nil || found.Count != 1 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestNameAndPassword(t *testing.T) {
	t.Parallel()
	_, endpoint := startAlone(t)
	options := EtcdOptions{Endpoints: []string{endpoint}, Username: "root", Password: "secret"}
	early := openEtcd(t, options)
	win(t, early, 0, Record{Machine: "nat", Voice: "a"}) // nobody is asked for a name yet
	admin := openEtcd(t, EtcdOptions{Endpoints: []string{endpoint}}).client
	if _, err := admin.UserAdd(soon(t), "root", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UserGrantRole(soon(t), "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AuthEnable(soon(t)); err != nil {
		t.Fatal(err)
	}
	win(t, early, 1, Record{Machine: "nat", Voice: "a"})
	win(t, openEtcd(t, options), 2, Record{Machine: "nat", Voice: "a"})
	options.Password = "wrong"
	for _, a := range []*Etcd{openEtcd(t, options), openEtcd(t, EtcdOptions{Endpoints: []string{endpoint}})} {
		_, err := a.TestAndSet(soon(t), 3, Record{Machine: "nat", Voice: "a"})
		if err == nil || errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a good password: %v", err)
		}
	}
}

func TestOpeningReachesForNothing(t *testing.T) {
	t.Parallel()
	unused := freeHost() + ":7602"
	a := openEtcd(t, EtcdOptions{Endpoints: []string{unused}, Username: "x", Password: "y"})
	_, err := a.Current(within(t, 300*time.Millisecond), "nat")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), unused) {
		t.Error(err)
	}
	_, err = a.TestAndSet(within(t, 300*time.Millisecond), 0, Record{Machine: "nat"})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("nothing was sent: %v", err)
	}
}

func TestEndpointsAreChecked(t *testing.T) {
	for _, o := range []EtcdOptions{
		{},
		{Endpoints: []string{""}},
		{Endpoints: []string{"host"}},
		{Endpoints: []string{"ftp://host:1"}},
		{Endpoints: []string{"http://host:1/path"}},
		{Endpoints: []string{"http://host:1", "https://host:1"}},
		{Endpoints: []string{"http://host:1"}, TLS: &tls.Config{}},
	} {
		if a, err := OpenEtcd(o); err == nil {
			a.Close()
			t.Errorf("opened %v", o.Endpoints)
		}
	}
}
