package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Files of a host.
type Files struct {
	// CA holds the authorities' certificates: one, or two while one takes the
	// other's place.
	CA string
	// Cert is the host's certificate, then what lies between it and its
	// authority; Key its key, in PEM.
	Cert, Key string
}

func (f Files) list() []string { return []string{f.CA, f.Cert, f.Key} }

// Options of an Identity.
type Options struct {
	// Host is whose certificate it must be, by its common name and DNS names,
	// now and each time that it is read again; "": anybody's.
	Host string
	// Now is the present time; nil: the system's.
	Now func() time.Time
	// Log tells of files that cannot be read again; nil: nobody.
	Log hclog.Logger
}

// Identity proves who a host is, and knows others. Its methods, and the
// configurations that they return, may be used concurrently.
type Identity struct {
	files Files
	host  string
	now   func() time.Time
	log   hclog.Logger

	mu      sync.Mutex
	seen    []stamp // of the files, when they were last looked at
	broken  bool    // what was seen made no sense
	current *material
}

// material is what the files held.
type material struct {
	own   tls.Certificate
	roots *x509.CertPool
}

// stamp tells one version of a file from the next. changed is the inode's: it
// tells of a new mode, and of content that came with its old time.
type stamp struct {
	modified time.Time
	changed  syscall.Timespec
	size     int64
	inode    uint64
}

// Load reads a host's files. It fails if the key is not the certificate's, if
// no authority of the CA file signed it for servers and clients, if its time is
// over, if it is not the host's that is asked for, or if others than the owner
// have any right to the key's file, or the owner is another user.
func Load(f Files, o Options) (*Identity, error) {
	id := &Identity{files: f, host: o.Host, now: o.Now, log: o.Log}
	if id.now == nil {
		id.now = time.Now
	}
	if id.log == nil {
		id.log = hclog.NewNullLogger()
	}
	id.seen = stamps(f)
	m, err := id.read()
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; \"hostd pki init\" and \"hostd pki issue\" create what is needed", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read this host's certificate: %w", err)
	}
	id.current = m
	return id, nil
}

func stamps(f Files) []stamp {
	var all []stamp
	for _, path := range f.list() {
		var s stamp
		if info, err := os.Stat(path); err == nil {
			s.modified, s.size = info.ModTime(), info.Size()
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				s.inode, s.changed = sys.Ino, sys.Ctim
			}
		}
		all = append(all, s)
	}
	return all
}

func (id *Identity) read() (*material, error) {
	if err := Secret("key", id.files.Key); err != nil {
		return nil, err
	}
	roots, err := readAuthorities(id.files.CA)
	if err != nil {
		return nil, err
	}
	own, err := keyPair(id.files.Cert, id.files.Key)
	if err != nil {
		return nil, fmt.Errorf("take certificate %s and key %s: %w", id.files.Cert, id.files.Key, err)
	}
	m := &material{own: own, roots: roots}
	return m, id.check(m)
}

// readAuthorities refuses what is no authority: as a root it would be trusted
// by itself.
func readAuthorities(path string) (*x509.CertPool, error) {
	all, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, c := range all {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %q is not a CA certificate; this file may hold only those", path, c.Subject)
		}
		roots.AddCert(c)
	}
	return roots, nil
}

// check that others will accept the certificate.
func (id *Identity) check(m *material) error {
	if h := id.host; h != "" && (m.own.Leaf.Subject.CommonName != h || !slices.Contains(m.own.Leaf.DNSNames, h)) {
		return fmt.Errorf("%s names %q, with the DNS names %q; this is host %q, which must be both the common name and a DNS name",
			id.files.Cert, m.own.Leaf.Subject.CommonName, m.own.Leaf.DNSNames, h)
	}
	var between []*x509.Certificate
	for _, der := range m.own.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%s: %w", id.files.Cert, err)
		}
		between = append(between, c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := id.verify(m, append([]*x509.Certificate{m.own.Leaf}, between...), "", usage); err != nil {
			return fmt.Errorf("%s: %w", id.files.Cert, err)
		}
	}
	return nil
}

// verify a chain, leaf first, with the authorities of m. An empty host is not
// compared.
func (id *Identity) verify(m *material, chain []*x509.Certificate, host string, usage x509.ExtKeyUsage) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: m.roots, Intermediates: between,
		CurrentTime: id.now(), KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// material now: the files are read again when they have changed. While they
// make no sense what they held before stays in use, and each call tries them
// again: time, or the other half of a renewal, may be all that they need.
func (id *Identity) material() *material {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := stamps(id.files)
	changed := !slices.Equal(now, id.seen)
	if !changed && !id.broken {
		return id.current
	}
	id.seen = now
	m, err := id.read()
	id.broken = err != nil
	if err != nil {
		if changed {
			id.log.Error("changed certificate files make no sense; the ones before stay in use", "error", err)
		}
		return id.current
	}
	id.log.Info("certificate files read again", "until", m.own.Leaf.NotAfter)
	id.current = m
	return m
}

// Name of this host, as its certificate says.
func (id *Identity) Name() string { return id.material().own.Leaf.Subject.CommonName }

// NotAfter is the end of the certificate's time.
func (id *Identity) NotAfter() time.Time { return id.material().own.Leaf.NotAfter }

// Server is for listeners: it admits only those with a certificate of the
// authority. protos are the protocols (RFC 7301) of which a client must name
// one.
func (id *Identity) Server(protos ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protos, SessionTicketsDisabled: true, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := id.material()
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.own}, ClientCAs: m.roots,
			ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: protos, Time: id.now, SessionTicketsDisabled: true}, nil
	}}
}

// Client is for connections to a host: the server's certificate must carry its
// name, wherever it is reached.
//
// An empty host stands for the name or address that is dialled. An authority
// that is added to the CA file then counts only in configurations made later;
// one that is removed counts no more at once.
func (id *Identity) Client(host string, protos ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, NextProtos: protos, Time: id.now, SessionTicketsDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.material().own, nil },
	}
	if host == "" {
		// Only crypto/tls knows an address that was dialled, so it compares.
		c.RootCAs = id.material().roots
	} else {
		// The authorities may change while the configuration is in use, so all
		// verification is VerifyConnection's.
		c.InsecureSkipVerify = true
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		if err := id.verify(id.material(), s.PeerCertificates, host, x509.ExtKeyUsageServerAuth); err != nil {
			return fmt.Errorf("the server's certificate: %w", err)
		}
		return nil
	}
	return c
}

// PeerName is the host at the other end of a connection that was made with an
// Identity's configuration: the certificate's common name, which must be among
// its DNS names. It fails before the handshake is complete.
func PeerName(s tls.ConnectionState) (string, error) {
	if !s.HandshakeComplete || len(s.PeerCertificates) == 0 {
		return "", errors.New("the peer sent no certificate")
	}
	c := s.PeerCertificates[0]
	name := c.Subject.CommonName
	if strings.EqualFold(name, Cluster) {
		return "", fmt.Errorf("the peer's certificate names %q, which all hosts share: it must name one host", name)
	}
	if !slices.Contains(c.DNSNames, name) {
		return "", fmt.Errorf("the peer's certificate names %q, which is not among its DNS names %q", name, c.DNSNames)
	}
	return name, nil
}
