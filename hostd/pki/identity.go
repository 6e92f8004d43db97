package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
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
	// Now is the present time; nil: the system's.
	Now func() time.Time
	// Log tells of files that cannot be read again; nil: nobody.
	Log hclog.Logger
}

// Identity proves who a host is, and knows others. Its methods, and the
// configurations that they return, may be used concurrently.
type Identity struct {
	files Files
	now   func() time.Time
	log   hclog.Logger

	mu      sync.Mutex
	seen    []stamp // of the files, when they were last looked at
	current *material
}

// material is what the files held.
type material struct {
	own   tls.Certificate
	roots *x509.CertPool
}

// stamp tells one version of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// Load reads a host's files. It fails if the key is not the certificate's, if
// no authority of the CA file signed it, if its time is over, or if others than
// the owner may read the key.
func Load(f Files, o Options) (*Identity, error) {
	id := &Identity{files: f, now: o.Now, log: o.Log}
	if id.now == nil {
		id.now = time.Now
	}
	if id.log == nil {
		id.log = hclog.NewNullLogger()
	}
	if err := secret(f.Key); err != nil {
		return nil, fmt.Errorf("read this host's certificate: %w", err)
	}
	id.seen = stamps(f)
	m, err := id.read()
	if err != nil {
		return nil, fmt.Errorf("read this host's certificate: %w; \"hostd pki init\" makes one", err)
	}
	id.current = m
	return id, nil
}

func secret(key string) error {
	info, err := os.Stat(key)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("others may read the key %s (mode %#o); make it 0600", key, info.Mode().Perm())
	}
	return err
}

func stamps(f Files) []stamp {
	var all []stamp
	for _, path := range f.list() {
		var s stamp
		if info, err := os.Stat(path); err == nil {
			s.modified, s.size = info.ModTime(), info.Size()
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				s.inode = sys.Ino
			}
		}
		all = append(all, s)
	}
	return all
}

func (id *Identity) read() (*material, error) {
	authorities, err := readCertificates(id.files.CA)
	if err != nil {
		return nil, err
	}
	m := &material{roots: x509.NewCertPool()}
	for _, c := range authorities {
		m.roots.AddCert(c)
	}
	if m.own, err = tls.LoadX509KeyPair(id.files.Cert, id.files.Key); err != nil {
		return nil, err
	}
	return m, id.check(m)
}

// check that others will accept the certificate.
func (id *Identity) check(m *material) error {
	between := x509.NewCertPool()
	for _, der := range m.own.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := m.own.Leaf.Verify(x509.VerifyOptions{Roots: m.roots, Intermediates: between,
			CurrentTime: id.now(), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			return fmt.Errorf("%s: %w", id.files.Cert, err)
		}
	}
	return nil
}

// material now: the files are read again when they have changed. While they
// make no sense what they held before stays in use.
func (id *Identity) material() *material {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := stamps(id.files)
	if slices.Equal(now, id.seen) {
		return id.current
	}
	id.seen = now
	m, err := id.read()
	if err != nil {
		id.log.Error("changed certificate files make no sense; the ones before stay in use", "error", err)
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
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := id.material()
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.own}, ClientCAs: m.roots,
			ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: protos, Time: id.now, SessionTicketsDisabled: true}, nil
	}}
}

// Client is for connections to a host: the server's certificate must name it.
// An empty host stands for the name or address that is dialled.
func (id *Identity) Client(host string, protos ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, NextProtos: protos, Time: id.now, SessionTicketsDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.material().own, nil },
		// The authorities may change while the configuration is in use, so
		// verification is done here.
		InsecureSkipVerify: true,
	}
	c.VerifyConnection = func(s tls.ConnectionState) error { return id.verify(s, nameOf(host, s.ServerName)) }
	return c
}

func nameOf(host, dialled string) string {
	if host != "" {
		return host
	}
	return dialled
}

func (id *Identity) verify(s tls.ConnectionState, host string) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: id.material().roots, Intermediates: between,
		CurrentTime: id.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// PeerName is the host at the other end of an established connection.
func PeerName(s tls.ConnectionState) (string, error) {
	if len(s.PeerCertificates) == 0 {
		return "", errors.New("the peer showed no certificate")
	}
	c := s.PeerCertificates[0]
	if name := c.Subject.CommonName; slices.Contains(c.DNSNames, name) {
		return name, nil
	}
	return "", fmt.Errorf("the peer's certificate is of %q, which is not among its DNS names %q", c.Subject.CommonName, c.DNSNames)
}
