package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
)

// foreign makes a pair from a template with the authority of a directory.
func foreign(t *testing.T, dir, name string, change func(*x509.Certificate)) {
	t.Helper()
	authority, err := readAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, Cluster},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	change(template)
	p, err := newPair(name, template, authority)
	if err == nil {
		err = create(dir, []*pair{p})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	at := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	for _, c := range []struct {
		name, want string
		spoil      func(t *testing.T, dir string, f *Files)
		o          Options
	}{
		{"no key", "hostd pki init", func(t *testing.T, _ string, f *Files) { f.Key += "none" }, Options{}},
		{"no authority", "hostd pki init", func(t *testing.T, _ string, f *Files) { f.CA += "none" }, Options{}},
		{"key for the group", "0600", func(t *testing.T, _ string, f *Files) { os.Chmod(f.Key, 0o640) }, Options{}},
		{"key for all", "0600", func(t *testing.T, _ string, f *Files) { os.Chmod(f.Key, 0o604) }, Options{}},
		{"another's key", "private key does not match", func(t *testing.T, dir string, f *Files) { f.Key = filesOf(dir, "b").Key }, Options{}},
		{"another authority", "unknown authority", func(t *testing.T, _ string, f *Files) { f.CA = filesOf(authorityOf(t), "").CA }, Options{}},
		{"over", "expired", nil, Options{Now: at(HostValidity + time.Hour)}},
		{"not begun", "not yet valid", nil, Options{Now: at(-2 * clockSlack)}},
		{"another host", `this is host "b"`, nil, Options{Host: "b"}},
		{"a host as authority", "not a CA certificate", func(t *testing.T, dir string, f *Files) { f.CA = f.Cert }, Options{}},
		{"a key as authority", "only certificates", func(t *testing.T, dir string, f *Files) { f.CA = f.Key }, Options{}},
		{"empty authority", "no certificate", func(t *testing.T, dir string, f *Files) { put(t, f.CA, 0o644) }, Options{}},
		{"bundle cut short", "1 of its 2 certificates", func(t *testing.T, dir string, f *Files) {
			b := get(t, f.CA)
			put(t, f.CA, 0o644, b, b[:len(b)/2])
		}, Options{}},
		{"not for clients", "incompatible key usage", func(t *testing.T, dir string, f *Files) {
			foreign(t, dir, "c", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
			*f = filesOf(dir, "c")
		}, Options{}},
		{"not for servers", "incompatible key usage", func(t *testing.T, dir string, f *Files) {
			foreign(t, dir, "c", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })
			*f = filesOf(dir, "c")
		}, Options{}},
		{"no DNS name", `this is host "c"`, func(t *testing.T, dir string, f *Files) {
			foreign(t, dir, "c", func(c *x509.Certificate) { c.DNSNames = c.DNSNames[1:] })
			*f = filesOf(dir, "c")
		}, Options{Host: "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := authorityOf(t, "a", "b")
			f := filesOf(dir, "a")
			if c.spoil != nil {
				c.spoil(t, dir, &f)
			}
			if _, err := Load(f, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestHandshakes(t *testing.T) {
	dir, strange := authorityOf(t, "a", "b"), authorityOf(t, "a", "b")
	later := Options{Now: func() time.Time { return time.Now().Add(HostValidity + 24*time.Hour) }}
	a, b := load(t, dir, "a", Options{}), load(t, dir, "b", Options{})
	lateA, lateB := load(t, dir, "a", Options{}), load(t, dir, "b", Options{})
	lateA.now, lateB.now = later.Now, later.Now
	with := func(c *tls.Config, change func(*tls.Config)) *tls.Config { change(c); return c }
	for _, c := range []struct {
		name           string
		client, server *tls.Config
		blame          string // the side that must refuse; "": nobody
		want           string
	}{
		{"peers", a.Client("b", "x"), b.Server("y", "x"), "", ""},
		{"the other way", b.Client("a", "x"), a.Server("x"), "", ""},
		{"as members of the arbiter", a.Client(Cluster, "x"), b.Server("x"), "", ""},
		{"client of another authority", with(a.Client("b", "x"), func(c *tls.Config) {
			c.GetClientCertificate = load(t, strange, "a", Options{}).Client("b").GetClientCertificate
		}), b.Server("x"), "server", "unknown authority"},
		{"client without a certificate", with(a.Client("b", "x"), func(c *tls.Config) { c.GetClientCertificate = nil }), b.Server("x"), "server", "didn't provide a certificate"},
		{"client of TLS 1.2", with(a.Client("b", "x"), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), b.Server("x"), "server", "unsupported versions"},
		{"client out of date", a.Client("b", "x"), lateB.Server("x"), "server", "expired"},
		{"client of no common protocol", a.Client("b", "z"), b.Server("x"), "server", "unsupported application protocols"},
		{"server of another authority", a.Client("b", "x"), load(t, strange, "b", Options{}).Server("x"), "client", "unknown authority"},
		{"server of another name", a.Client("c", "x"), b.Server("x"), "client", "not c"},
		{"server out of date", lateA.Client("b", "x"), b.Server("x"), "client", "expired"},
		{"server of TLS 1.2", a.Client("b", "x"), &tls.Config{Certificates: []tls.Certificate{b.current.own}, MaxVersion: tls.VersionTLS12}, "client", "protocol version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := meet(t, c.client, c.server)
			if c.blame == "" {
				m.admitted(t)
				if m.serverState.Version != tls.VersionTLS13 || m.serverState.NegotiatedProtocol != "x" {
					t.Errorf("version %x, protocol %q", m.serverState.Version, m.serverState.NegotiatedProtocol)
				}
				return
			}
			err := map[string]error{"client": m.client, "server": m.server}[c.blame]
			if m.client == nil || m.server == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("client: %v; server: %v; want %q from the %s", m.client, m.server, c.want, c.blame)
			}
		})
	}
}

func TestPeerNames(t *testing.T) {
	dir := authorityOf(t, "a", "b")
	m := meet(t, load(t, dir, "a", Options{}).Client("b", "x"), load(t, dir, "b", Options{}).Server("x")).admitted(t)
	for want, s := range map[string]tls.ConnectionState{"a": m.serverState, "b": m.clientState} {
		if name, err := PeerName(s); name != want || err != nil {
			t.Errorf("got %q, %v; want %q", name, err, want)
		}
	}
	foreign(t, dir, "c", func(c *x509.Certificate) { c.DNSNames = []string{"d", Cluster} })
	foreign(t, dir, "e", func(c *x509.Certificate) { c.Subject.CommonName = Cluster })
	foreign(t, dir, "f", func(c *x509.Certificate) { c.Subject.CommonName = "" })
	for _, host := range []string{"c", "e", "f"} {
		m := meet(t, load(t, dir, host, Options{}).Client("b", "x"), load(t, dir, "b", Options{}).Server("x")).admitted(t)
		if name, err := PeerName(m.serverState); err == nil {
			t.Errorf("the certificate of %s counts as host %q", host, name)
		}
	}
	unfinished := m.serverState
	unfinished.HandshakeComplete = false
	for _, s := range []tls.ConnectionState{{}, {HandshakeComplete: true}, unfinished} {
		if name, err := PeerName(s); err == nil {
			t.Errorf("nobody counts as host %q", name)
		}
	}
}

// TestDialledName is for servers that are no hosts: what is dialled counts, an
// address too.
func TestDialledName(t *testing.T) {
	dir := authorityOf(t, "a", "127.0.0.1")
	a := load(t, dir, "a", Options{})
	for server, good := range map[string]bool{"a": false, "127.0.0.1": true} {
		config := a.Client("", "x")
		config.ServerName = "127.0.0.1" // as dialling does
		m := meet(t, config, load(t, dir, server, Options{}).Server("x"))
		if (m.client == nil) != good {
			t.Errorf("server %s at an address: %v", server, m.client)
		}
	}
	config := a.Client("", "x")
	config.ServerName = "a"
	meet(t, config, a.Server("x")).admitted(t)
	// Its authority is withdrawn while the configuration is in use.
	server, other := a.Server("x"), authorityOf(t, "a")
	own := filesOf(dir, "a")
	put(t, own.CA, 0o644, get(t, filesOf(other, "a").CA))
	copyPair(t, filesOf(other, "a"), own)
	old := &tls.Config{Certificates: []tls.Certificate{a.current.own}, NextProtos: []string{"x"}}
	if m := meet(t, config, old); m.client == nil || !strings.Contains(m.client.Error(), "unknown authority") {
		t.Errorf("server of a withdrawn authority: %v", m.client)
	}
	if m := meet(t, config, server); m.client == nil {
		t.Error("a new authority counts in an old configuration; the documentation says otherwise")
	}
}

func TestNoResumption(t *testing.T) {
	dir := authorityOf(t, "a", "b")
	client, server := load(t, dir, "a", Options{}).Client("b", "x"), load(t, dir, "b", Options{}).Server("x")
	client.SessionTicketsDisabled, client.ClientSessionCache = false, tls.NewLRUClientSessionCache(4)
	for range 3 {
		if m := meet(t, client, server).admitted(t); m.clientState.DidResume || m.serverState.DidResume {
			t.Fatal("a session was resumed")
		}
	}
}

// echo sends a line through a connection and back.
func (m met) echo(t *testing.T) {
	t.Helper()
	for _, c := range [][2]net.Conn{{m.clientConn, m.serverConn}, {m.serverConn, m.clientConn}} {
		if _, err := c[0].Write([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10)
		if _, err := io.ReadFull(c[1], b); err != nil || string(b) != "still here" {
			t.Fatalf("%q, %v", b, err)
		}
	}
}

func serial(s tls.ConnectionState) string { return s.PeerCertificates[0].SerialNumber.String() }

func TestRenewalWhileConnected(t *testing.T) {
	dir := authorityOf(t, "a", "b")
	client, server := load(t, dir, "a", Options{}).Client("b", "x"), load(t, dir, "b", Options{}).Server("x")
	before := meet(t, client, server).admitted(t)
	renew(t, dir, "a")
	before.echo(t)
	renew(t, dir, "b")
	after := meet(t, client, server).admitted(t)
	if serial(before.serverState) == serial(after.serverState) || serial(before.clientState) == serial(after.clientState) {
		t.Error("an old certificate is in use")
	}
	before.echo(t)
	after.echo(t)
}

// TestBrokenRenewal: what makes no sense is told once and not used; it is when
// it is made whole.
func TestBrokenRenewal(t *testing.T) {
	for name, c := range map[string]struct{ spoil, mend func(*testing.T, Files) }{
		"garbage":     {func(t *testing.T, f Files) { put(t, f.Cert, 0o644, []byte("garbage")) }, nil},
		"gone":        {func(t *testing.T, f Files) { os.Remove(f.Key) }, nil},
		"authority":   {func(t *testing.T, f Files) { put(t, f.CA, 0o644) }, func(t *testing.T, f Files) { put(t, f.CA, 0o644, get(t, f.CA+".kept")) }},
		"half":        {func(t *testing.T, f Files) { put(t, f.Key, 0o600, get(t, f.Key+".other")) }, nil},
		"other host":  {func(t *testing.T, f Files) { copyPair(t, filesOf(filepath.Dir(f.Cert), "b"), f) }, nil},
		"open to all": {func(t *testing.T, f Files) { os.Chmod(f.Key, 0o644) }, func(t *testing.T, f Files) { os.Chmod(f.Key, 0o600) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := authorityOf(t, "a", "b")
			f := filesOf(dir, "a")
			put(t, f.CA+".kept", 0o644, get(t, f.CA))
			put(t, f.Key+".other", 0o600, get(t, filesOf(dir, "b").Key))
			var log journal.Journal
			a := load(t, dir, "a", Options{Host: "a", Log: log.Logger()})
			b := load(t, dir, "b", Options{})
			before := meet(t, a.Client("b", "x"), b.Server("x")).admitted(t)
			c.spoil(t, f)
			for range 3 {
				m := meet(t, a.Client("b", "x"), b.Server("x"))
				if name != "authority" { // b reads that one too
					m.admitted(t)
				}
				if m := meet(t, b.Client("a", "x"), a.Server("x")).admitted(t); serial(m.clientState) != serial(before.serverState) {
					t.Fatal("what makes no sense is in use")
				}
			}
			if n := log.Count("[ERROR]"); n != 1 {
				t.Errorf("%d errors logged", n)
			}
			if c.mend != nil {
				c.mend(t, f)
			}
			renew(t, dir, "a")
			if m := meet(t, b.Client("a", "x"), a.Server("x")).admitted(t); serial(m.clientState) == serial(before.serverState) {
				t.Error("the renewed certificate is not in use")
			}
			if n := log.Count("[ERROR]"); n != 1 {
				t.Errorf("%d errors logged", n)
			}
		})
	}
}

// TestRenewalAheadOfTime: time alone makes it good; nothing touches the files.
func TestRenewalAheadOfTime(t *testing.T) {
	dir := authorityOf(t, "a")
	c := newClock()
	a := load(t, dir, "a", Options{Now: c.now})
	old := a.NotAfter()
	if err := Issue(dir, "a", true, InitOptions{Now: func() time.Time { return c.now().Add(2 * clockSlack) }}); err != nil {
		t.Fatal(err)
	}
	if !a.NotAfter().Equal(old) {
		t.Error("a certificate is used before its time")
	}
	c.add(2 * clockSlack)
	if !a.NotAfter().After(old) || a.Name() != "a" {
		t.Errorf("host %s until %v: the renewed certificate is not in use", a.Name(), a.NotAfter())
	}
}

// TestRollAuthority changes two hosts' authority step by step, and makes a
// connection both ways after each.
func TestRollAuthority(t *testing.T) {
	old, next := authorityOf(t, "a", "b"), authorityOf(t, "a", "b")
	live := map[string]Files{}
	ids := map[string]*Identity{}
	for _, h := range []string{"a", "b"} {
		live[h] = filesOf(t.TempDir(), h)
		put(t, live[h].CA, 0o644, get(t, filesOf(old, h).CA))
		copyPair(t, filesOf(old, h), live[h])
		id, err := Load(live[h], Options{Host: h})
		if err != nil {
			t.Fatal(err)
		}
		ids[h] = id
	}
	configs := map[string][2]*tls.Config{"a to b": {ids["a"].Client("b", "x"), ids["b"].Server("x")}, "b to a": {ids["b"].Client("a", "x"), ids["a"].Server("x")}}
	step := func(what string, do func(f Files, host string)) {
		for _, h := range []string{"a", "b"} {
			do(live[h], h)
			for way, c := range configs {
				if m := meet(t, c[0], c[1]); m.client != nil || m.server != nil {
					t.Fatalf("%s at %s, %s: client %v, server %v", what, h, way, m.client, m.server)
				}
			}
		}
	}
	oldCA, newCA := get(t, filesOf(old, "a").CA), get(t, filesOf(next, "a").CA)
	step("both authorities", func(f Files, _ string) { put(t, f.CA, 0o644, oldCA, newCA) })
	step("new certificates", func(f Files, h string) { copyPair(t, filesOf(next, h), f) })
	step("new authority only", func(f Files, _ string) { put(t, f.CA, 0o644, newCA) })
	former := load(t, old, "a", Options{})
	if m := meet(t, former.Client("b", "x"), configs["a to b"][1]); m.client == nil || m.server == nil {
		t.Error("who has a certificate of the old authority is admitted")
	}
	if m := meet(t, configs["b to a"][0], former.Server("x")); m.client == nil {
		t.Error("a server of the old authority is believed")
	}
}

func TestReloadUnderLoad(t *testing.T) {
	dir := authorityOf(t, "a", "b")
	client, server := load(t, dir, "a", Options{}).Client("b", "x"), load(t, dir, "b", Options{}).Server("x")
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for range 25 {
				near, far := net.Pipe()
				c, s := tls.Client(near, client), tls.Server(far, server)
				var side sync.WaitGroup
				side.Go(func() {
					if err := s.Handshake(); err != nil {
						t.Error(err)
						far.Close()
					}
				})
				if err := c.Handshake(); err != nil {
					t.Error(err)
					near.Close()
				}
				side.Wait()
				near.Close()
				far.Close()
			}
		})
	}
	for range 20 {
		renew(t, dir, "a")
		renew(t, dir, "b")
	}
	load.Wait()
}
