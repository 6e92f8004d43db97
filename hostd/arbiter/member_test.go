package arbiter

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	ctx := soon(t)
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not come about")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// freeHost is an address of the loopback network that nobody else uses. With
// ports outside the range that the kernel gives out a member can come back to
// its own.
func freeHost() string {
	b := make([]byte, 3)
	rand.Read(b)
	return fmt.Sprintf("127.%d.%d.%d", 1+b[0]%250, b[1], 1+b[2]%250)
}

func memberOptions(t *testing.T, name string) MemberOptions {
	host := freeHost()
	return MemberOptions{
		Name: name, Dir: filepath.Join(t.TempDir(), "etcd"), Peer: host + ":7601", Client: host + ":7602",
		Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond,
	}
}

func start(t *testing.T, o MemberOptions) *Member {
	t.Helper()
	m, err := StartMember(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, m) })
	return m
}

func end(t *testing.T, m *Member) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func ready(t *testing.T, m *Member) {
	t.Helper()
	select {
	case <-m.Ready():
	case err := <-m.Err():
		t.Fatal(err)
	case <-soon(t).Done():
		t.Fatal("the member does not get ready")
	}
}

// startAlone runs a cluster of one, and gives its client address.
func startAlone(t *testing.T) (*Member, string) {
	t.Helper()
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}}
	m := start(t, o)
	ready(t, m)
	return m, o.Client
}

// authority is a small CA.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ca := &authority{t.TempDir(), cert, key}
	writePEM(t, ca.path("ca"), "CERTIFICATE", der)
	return ca
}

func (ca *authority) path(name string) string { return filepath.Join(ca.dir, name+".pem") }

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes NAME.pem and NAME-key.pem.
func (ca *authority) issue(t *testing.T, name string, dnsNames ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: dnsNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, ca.path(name), "CERTIFICATE", der)
	writePEM(t, ca.path(name+"-key"), "EC PRIVATE KEY", keyDER)
}

// client is a configuration with a host's certificate; "": with none.
func (ca *authority) client(t *testing.T, name string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "stillpoint", MinVersion: tls.VersionTLS13}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(ca.path(name), ca.path(name+"-key"))
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// trio is a cluster of three with TLS.
type trio struct {
	ca      *authority
	options []MemberOptions
	members []*Member
}

func startTrio(t *testing.T) *trio {
	t.Helper()
	c := &trio{ca: newAuthority(t), members: make([]*Member, 3)}
	var cluster []Peer
	for _, name := range []string{"a", "b", "w"} {
		o := memberOptions(t, name)
		c.ca.issue(t, name, name, "stillpoint")
		o.CertFile, o.KeyFile, o.CAFile, o.ServerName = c.ca.path(name), c.ca.path(name+"-key"), c.ca.path("ca"), "stillpoint"
		c.options = append(c.options, o)
		cluster = append(cluster, Peer{name, o.Peer})
	}
	for i := range c.options {
		c.options[i].Cluster = cluster
	}
	c.start(t, 0, 1, 2)
	return c
}

func (c *trio) start(t *testing.T, which ...int) {
	t.Helper()
	for _, i := range which {
		c.members[i] = start(t, c.options[i])
	}
}

func (c *trio) end(t *testing.T, which ...int) {
	t.Helper()
	for _, i := range which {
		end(t, c.members[i])
	}
}

func (c *trio) open(t *testing.T, certificate string, of ...int) *Etcd {
	t.Helper()
	o := EtcdOptions{TLS: c.ca.client(t, certificate)}
	for _, i := range of {
		o.Endpoints = append(o.Endpoints, c.options[i].Client)
	}
	return openEtcd(t, o)
}

func TestThreeMembersLoseOneButNotTwo(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	a := c.open(t, "a", 0, 1, 2)
	claim := Record{Machine: "nat", Voice: "a", Standby: "b", Kind: "pair"}
	win(t, a, 0, claim)
	c.end(t, 0)
	stands := win(t, a, 1, claim)
	c.end(t, 1)

	begin := time.Now()
	_, err := a.Current(within(t, time.Second), "nat")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "majority") {
		t.Errorf("read without a quorum: %v", err)
	}
	_, err = a.TestAndSet(within(t, time.Second), 2, claim)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim without a quorum: %v", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("both calls took %v", took)
	}

	c.start(t, 0) // with its data
	if r, err := a.Current(soon(t), "nat"); err != nil || r != stands {
		t.Fatalf("with two again: %+v, %v, want %+v", r, err, stands)
	}
	win(t, a, 2, Record{Machine: "nat", Voice: "b", Kind: "takeover"})

	// A cold start of all, each in turn: one alone waits for the others.
	c.end(t, 0, 2)
	c.start(t, 2)
	select {
	case <-c.members[2].Ready():
		t.Error("a member is ready alone")
	default:
	}
	c.start(t, 0, 1)
	for _, m := range c.members {
		ready(t, m)
	}
	for i := range c.members {
		if r, err := c.open(t, "b", i).Current(soon(t), "nat"); err != nil || r.Generation != 3 || r.Voice != "b" {
			t.Errorf("member %d: %+v, %v", i, r, err)
		}
	}
}

func TestAMemberWithoutItsDataIsReplaced(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	a := c.open(t, "a", 0, 1, 2)
	stands := win(t, a, 0, Record{Machine: "nat", Voice: "a"})
	for _, m := range c.members {
		ready(t, m)
	}
	c.end(t, 2)
	if err := os.RemoveAll(c.options[2].Dir); err != nil {
		t.Fatal(err)
	}
	m, err := StartMember(c.options[2])
	if err == nil {
		m.Close()
		t.Fatal("it began anew under its old identity")
	}
	if !strings.Contains(err.Error(), "etcdctl member remove") {
		t.Error(err)
	}
	remove(t, a.client, "https://"+c.options[2].Peer)
	add(t, a.client, "https://"+c.options[2].Peer)
	if err := os.RemoveAll(c.options[2].Dir); err != nil {
		t.Fatal(err)
	}
	c.options[2].Join = true
	c.start(t, 2)
	ready(t, c.members[2])
	if r, err := c.open(t, "a", 2).Current(soon(t), "nat"); err != nil || r != stands {
		t.Errorf("%+v, %v", r, err)
	}
	remove(t, a.client, "https://"+c.options[2].Peer)
	select {
	case err := <-c.members[2].Err():
		if !strings.Contains(err.Error(), "removed") {
			t.Error(err)
		}
	case <-soon(t).Done():
		t.Error("a member that was removed stays")
	}
	c.end(t, 2)
}

// remove and add are what an operator does. They are refused for a while after
// a change: the others must be well connected. An answer may be lost, so the
// list tells whether it is done.
func remove(t *testing.T, client *clientv3.Client, peer string) {
	t.Helper()
	until(t, client, peer, false, func(ctx context.Context, id uint64) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	})
}

func add(t *testing.T, client *clientv3.Client, peer string) {
	t.Helper()
	until(t, client, peer, true, func(ctx context.Context, _ uint64) error {
		_, err := client.MemberAdd(ctx, []string{peer})
		return err
	})
}

func until(t *testing.T, client *clientv3.Client, peer string, listed bool, change func(context.Context, uint64) error) {
	t.Helper()
	var last error
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	waitFor(t, func() bool {
		ctx := within(t, 10*time.Second)
		all, err := client.MemberList(ctx)
		if err != nil {
			last = err
			return false
		}
		id := uint64(0)
		for _, m := range all.Members {
			if slices.Contains(m.PeerURLs, peer) {
				id = m.ID
			}
		}
		if (id != 0) == listed {
			return true
		}
		if err := change(ctx, id); err != nil {
			last = err
		}
		return false
	})
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue(t, "a", "a", "stillpoint")
	ca.issue(t, "web", "web")
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}}
	o.CertFile, o.KeyFile, o.CAFile, o.ServerName = ca.path("a"), ca.path("a-key"), ca.path("ca"), "stillpoint"
	ready(t, start(t, o))
	forger := newAuthority(t)
	forger.issue(t, "a", "a", "stillpoint")
	forged := ca.client(t, "")
	forged.Certificates = forger.client(t, "a").Certificates
	old := ca.client(t, "a")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	elsewhere := ca.client(t, "a")
	elsewhere.ServerName = "other"

	for name, c := range map[string]*tls.Config{
		"no certificate": ca.client(t, ""), "another CA's": forged, "another name": ca.client(t, "web"), "TLS 1.2": old, "wants another server": elsewhere, "plain": nil,
	} {
		t.Run(name, func(t *testing.T) {
			a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}, TLS: c})
			_, err := a.TestAndSet(within(t, 500*time.Millisecond), 0, Record{Machine: "nat", Voice: "x"})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it got %v", err)
			}
			t.Log(err)
			for _, address := range []string{o.Client, o.Peer} {
				if err := knock(address, c); err == nil {
					t.Errorf("%s let it in", address)
				}
			}
		})
	}
	mine := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}, TLS: ca.client(t, "a")})
	if r, err := mine.Current(soon(t), "nat"); err != nil || r.Generation != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, address := range []string{o.Client, o.Peer} {
		if err := knock(address, ca.client(t, "a")); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// knock asks for the version over HTTP/1.1.
func knock(address string, c *tls.Config) error {
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c != nil {
		conn = tls.Client(conn, c)
	}
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET /version HTTP/1.1\r\nHost: stillpoint\r\n\r\n"); err != nil {
		return err
	}
	answer := make([]byte, 12)
	if _, err := conn.Read(answer); err != nil {
		return err
	}
	if string(answer) != "HTTP/1.1 200" {
		return errors.New(string(answer))
	}
	return nil
}

func TestCertificatesAreReadAtEachHandshake(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue(t, "a", "a", "stillpoint")
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}}
	o.CertFile, o.KeyFile, o.CAFile, o.ServerName = ca.path("a"), ca.path("a-key"), ca.path("ca"), "stillpoint"
	ready(t, start(t, o))
	before := [2]string{serial(t, o.Client, ca), serial(t, o.Peer, ca)}
	ca.issue(t, "a", "a", "stillpoint")
	after := [2]string{serial(t, o.Client, ca), serial(t, o.Peer, ca)}
	if before[0] != before[1] || after[0] != after[1] || before[0] == after[0] {
		t.Errorf("before %v, after %v", before, after)
	}
}

func serial(t *testing.T, address string, ca *authority) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, ca.client(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestAFatalErrorEndsTheMemberOnly(t *testing.T) {
	t.Parallel()
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}}
	m := start(t, o)
	ready(t, m)
	a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
	stands := win(t, a, 0, Record{Machine: "nat", Voice: "a"})
	// As etcd does when a disk is full.
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		m.etcd.GetLogger().Named("raft").Fatal("failed to save")
		t.Error("etcd's goroutine went on")
	}()
	<-failed
	select {
	case err := <-m.Err():
		if !strings.Contains(err.Error(), "failed to save") {
			t.Error(err)
		}
	case <-soon(t).Done():
		t.Fatal("nobody was told")
	}
	waitFor(t, func() bool { // until it has ended
		_, err := a.Current(within(t, 300*time.Millisecond), "nat")
		return err != nil
	})
	end(t, m)
	if _, open := <-m.Err(); open {
		t.Error("Err is not closed")
	}
	ready(t, start(t, o))
	if r, err := a.Current(soon(t), "nat"); err != nil || r != stands {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAFullDiskEndsTheMemberInGoodOrder(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	free.Store(1 << 30)
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}}
	o.free = func(string) (uint64, error) { return free.Load(), nil }
	m := start(t, o)
	ready(t, m)
	a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
	stands := win(t, a, 0, Record{Machine: "nat", Voice: "a"})
	free.Store(roomLeft - 1)
	select {
	case err := <-m.Err():
		if !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
	case <-soon(t).Done():
		t.Fatal("nobody was told")
	}
	end(t, m)
	if m, err := StartMember(o); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v, %v", m, err)
	}
	free.Store(roomAgain)
	ready(t, start(t, o))
	if r, err := a.Current(soon(t), "nat"); err != nil || r != stands {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestADirectoryServesOneMember(t *testing.T) {
	t.Parallel()
	o := memberOptions(t, "a")
	o.Cluster = []Peer{{o.Name, o.Peer}, {"b", freeHost() + ":7601"}}
	m := start(t, o) // it has no quorum, and must still end
	info, err := os.Stat(o.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if second, err := StartMember(o); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v, %v", second, err)
	}
	end(t, m)
	start(t, o)
}

func TestMemberOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := memberOptions(t, "a")
	good.Cluster = []Peer{{good.Name, good.Peer}}
	for name, change := range map[string]func(*MemberOptions){
		"no name":         func(o *MemberOptions) { o.Name = "" },
		"no directory":    func(o *MemberOptions) { o.Dir = "" },
		"not listed":      func(o *MemberOptions) { o.Cluster = []Peer{{"b", o.Peer}} },
		"other address":   func(o *MemberOptions) { o.Cluster = []Peer{{o.Name, "127.0.0.1:1"}} },
		"half a TLS":      func(o *MemberOptions) { o.CertFile = "x" },
		"missing files":   func(o *MemberOptions) { o.CertFile, o.KeyFile, o.CAFile, o.ServerName = "x", "y", "z", "s" },
		"short election":  func(o *MemberOptions) { o.Election = o.Heartbeat },
		"occupied port":   func(o *MemberOptions) { o.Client = o.Peer },
		"name with comma": func(o *MemberOptions) { o.Name = "a,b"; o.Cluster = []Peer{{o.Name, o.Peer}} },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			change(&o)
			if m, err := StartMember(o); err == nil {
				m.Close()
				t.Error("started")
			}
		})
	}
	ready(t, start(t, good))
}

// TestStrangersTakeNoRoomOnAMembersPorts: those who say nothing are few at once
// and hung up on soon, and hosts and members get through.
func TestStrangersTakeNoRoomOnAMembersPorts(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ca.issue(t, "a", "a", "stillpoint")
	o := alone(t)
	o.CertFile, o.KeyFile, o.CAFile, o.ServerName = ca.path("a"), ca.path("a-key"), ca.path("ca"), "stillpoint"
	ready(t, start(t, o))
	const strangers, most = 300, 64
	for _, address := range []string{o.Client, o.Peer} {
		var open atomic.Int32
		open.Store(strangers)
		for range strangers {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				conn.Read(make([]byte, 1))
				open.Add(-1)
			}()
		}
		begun := time.Now()
		waitFor(t, func() bool { return open.Load() <= most })
		if took := time.Since(begun); took > 4*time.Second { // the limit of a handshake is 5 s
			t.Errorf("%s: they were many for %v", address, took)
		}
		if err := knock(address, ca.client(t, "a")); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		waitFor(t, func() bool { return open.Load() == 0 })
	}
	mine := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}, TLS: ca.client(t, "a")})
	win(t, mine, 0, Record{Machine: "nat", Voice: "a"})
}
