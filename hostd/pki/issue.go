package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Cluster is the DNS name in every host's certificate.
const Cluster = "stillpoint"

// Validity of what Init and Issue make, where nothing else is asked for.
const (
	AuthorityValidity = 10 * 365 * 24 * time.Hour
	HostValidity      = 2 * 365 * 24 * time.Hour
)

// clockSlack is how much earlier than now a certificate counts: clocks of
// hosts differ.
const clockSlack = time.Hour

// authorityName is the authority's, without the endings of its files.
const authorityName = "ca"

// hostName is the rule of the configuration.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62})$`)

// InitOptions of an authority and its hosts.
type InitOptions struct {
	Hosts []string
	// Authority and Host are how long certificates are valid; 0: the defaults.
	// A host's ends no later than its authority's.
	Authority, Host time.Duration
	// Now is the present time; nil: the system's.
	Now func() time.Time
}

func (o *InitOptions) complete() error {
	if o.Authority == 0 {
		o.Authority = AuthorityValidity
	}
	if o.Host == 0 {
		o.Host = HostValidity
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	// Names in certificates are compared without regard to case.
	seen := map[string]bool{}
	for _, h := range o.Hosts {
		lower := strings.ToLower(h)
		switch {
		case !hostName.MatchString(h):
			return fmt.Errorf("%q is not a valid host name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit", h)
		case lower == authorityName || lower == Cluster:
			return fmt.Errorf("a host cannot be named %q: that name is reserved for the authority or for all hosts together", h)
		case seen[lower]:
			return fmt.Errorf("host %q is listed twice; case is ignored here", h)
		}
		seen[lower] = true
	}
	return nil
}

// Init makes an authority in a directory, ca.crt and ca.key, and a certificate
// and key for each host, HOST.crt and HOST.key, all ECDSA on P-256. It replaces
// nothing: if one of the files exists, nothing is made.
func Init(dir string, o InitOptions) error {
	if err := initialise(dir, o); err != nil {
		return fmt.Errorf("make certificates in %s: %w", dir, err)
	}
	return nil
}

func initialise(dir string, o InitOptions) error {
	if err := o.complete(); err != nil {
		return err
	}
	if err := absent(dir, append([]string{authorityName}, o.Hosts...)...); err != nil {
		return err
	}
	authority, err := newAuthority(o)
	if err != nil {
		return err
	}
	pairs := []*pair{authority}
	for _, h := range o.Hosts {
		p, err := newHost(h, authority, o)
		if err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return create(dir, pairs)
}

// Issue makes a certificate and key for one more host with the authority in a
// directory; what exists stays, and is an error. With renew it replaces those
// that the host has, both with new ones: a reader finds whole files, though for
// a moment they may not belong together.
func Issue(dir, host string, renew bool, o InitOptions) error {
	o.Hosts = []string{host}
	err := issue(dir, host, renew, o)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; make an authority there with \"hostd pki init\"", err)
	}
	if err != nil {
		return fmt.Errorf("make a certificate for host %s in %s: %w", host, dir, err)
	}
	return nil
}

func issue(dir, host string, renew bool, o InitOptions) error {
	if err := o.complete(); err != nil {
		return err
	}
	if err := alone(dir, host); err != nil {
		return err
	}
	missing := absent(dir, host)
	if !renew && missing != nil {
		return fmt.Errorf("%w; to replace it, use --renew", missing)
	}
	if renew && missing == nil {
		return errors.New("there is no certificate to renew; leave out --renew")
	}
	authority, err := readAuthority(dir)
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	p, err := newHost(host, authority, o)
	if err != nil {
		return err
	}
	if renew {
		return replace(dir, p)
	}
	return create(dir, []*pair{p})
}

// absent makes sure that nothing would be replaced.
func absent(dir string, names ...string) error {
	for _, n := range names {
		for _, path := range []string{filepath.Join(dir, n+".crt"), filepath.Join(dir, n+".key")} {
			_, err := os.Lstat(path)
			if err == nil {
				return fmt.Errorf("%s already exists; nothing was created", path)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// alone makes sure that no other host's name differs by case only: either could
// pass for the other.
func alone(dir, host string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		other, ok := strings.CutSuffix(e.Name(), ".crt")
		if ok && other != host && strings.EqualFold(other, host) {
			return fmt.Errorf("host %q already exists; case is ignored here", other)
		}
	}
	return nil
}

// pair is a certificate and its key, before they are files.
type pair struct {
	name        string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(o InitOptions) (*pair, error) {
	return newPair(authorityName, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Stillpoint authority"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: o.Now().Add(-clockSlack), NotAfter: o.Now().Add(o.Authority),
	}, nil)
}

func newHost(host string, authority *pair, o InitOptions) (*pair, error) {
	end := authority.certificate.NotAfter
	if !o.Now().Before(end) {
		return nil, fmt.Errorf("the authority expired at %s; make a new one", end)
	}
	if own := o.Now().Add(o.Host); own.Before(end) {
		end = own
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host, Cluster},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   o.Now().Add(-clockSlack), NotAfter: end,
	}
	// A name that reads as an address is only ever compared as one.
	if address := net.ParseIP(host); address != nil {
		template.IPAddresses = []net.IP{address}
	}
	return newPair(host, template, authority)
}

// newPair is signed by an authority; nil: by itself.
func newPair(name string, template *x509.Certificate, authority *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	if authority == nil {
		authority = &pair{certificate: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.certificate, &key.PublicKey, authority.key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &pair{name: name, certificate: certificate, key: key}, err
}

// readAuthority of a directory. ca.crt may hold the certificates of others too.
func readAuthority(dir string) (*pair, error) {
	path := filepath.Join(dir, authorityName)
	all, err := readCertificates(path + ".crt")
	if err != nil {
		return nil, err
	}
	key, err := readKey(path + ".key")
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.IsCA && key.PublicKey.Equal(c.PublicKey) {
			return &pair{name: authorityName, certificate: c, key: key}, nil
		}
	}
	return nil, fmt.Errorf("%s.key does not belong to any authority in %s.crt", path, path)
}

// Certificates of a PEM file, at least one, in their order. A file that holds
// anything else is an error.
func Certificates(path string) ([]*x509.Certificate, error) { return readCertificates(path) }

func readCertificates(path string) ([]*x509.Certificate, error) {
	text, blocks, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	// The decoder passes over blocks that are cut short.
	begun := strings.Count(string(text), "-----BEGIN ")
	var all []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s; it may hold only certificates", path, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) != begun {
		return nil, fmt.Errorf("%s: %d of its %d certificates cannot be read", path, begun-len(all), begun)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return all, nil
}
