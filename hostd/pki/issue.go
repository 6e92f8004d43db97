package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
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

var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62})$`)

// InitOptions of an authority and its hosts.
type InitOptions struct {
	Hosts []string
	// Authority and Host are how long certificates are valid; 0: the defaults.
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
	seen := map[string]bool{"ca": true, Cluster: true}
	for _, h := range o.Hosts {
		if !hostName.MatchString(h) || seen[h] {
			return fmt.Errorf("%q is no name of a host, or named twice: 1 to 63 letters, digits, dots, dashes and underscores; not \"ca\" or %q", h, Cluster)
		}
		seen[h] = true
	}
	return nil
}

// Init makes an authority in a directory, ca.crt and ca.key, and a certificate
// and key for each host, HOST.crt and HOST.key. It replaces nothing: if one of
// the files exists, nothing is made.
func Init(dir string, o InitOptions) error {
	err := o.complete()
	if err == nil {
		err = absent(dir, append([]string{"ca"}, o.Hosts...)...)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = makeAuthority(dir, o)
	}
	for _, h := range o.Hosts {
		if err == nil {
			err = issue(dir, h, o)
		}
	}
	if err != nil {
		return fmt.Errorf("make certificates in %s: %w", dir, err)
	}
	return nil
}

// Issue makes a certificate and key for one more host with the authority in a
// directory. With renew it replaces those that the host has.
func Issue(dir, host string, renew bool, o InitOptions) error {
	o.Hosts = []string{host}
	err := o.complete()
	if err == nil && !renew {
		err = absent(dir, host)
	}
	if err == nil {
		err = issue(dir, host, o)
	}
	if err != nil {
		return fmt.Errorf("make a certificate for host %s in %s: %w", host, dir, err)
	}
	return nil
}

// absent makes sure that nothing would be replaced.
func absent(dir string, names ...string) error {
	for _, n := range names {
		for _, path := range []string{filepath.Join(dir, n+".crt"), filepath.Join(dir, n+".key")} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s exists; nothing was made", path)
			}
		}
	}
	return nil
}

func makeAuthority(dir string, o InitOptions) error {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Stillpoint authority"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return makePair(dir, "ca", template, o.Authority, o.Now(), nil, nil)
}

func issue(dir, host string, o InitOptions) error {
	authority, key, err := readPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host, Cluster},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return makePair(dir, host, template, o.Host, o.Now(), authority, key)
}

// makePair makes a certificate and its key, signed by an authority or by itself.
func makePair(dir, name string, template *x509.Certificate, validity time.Duration, now time.Time, authority *x509.Certificate, by *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if authority == nil {
		authority, by = template, key
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return err
	}
	template.NotBefore, template.NotAfter = now.Add(-clockSlack), now.Add(validity)
	der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, by)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// A reader between the two renames finds a pair that does not match, and
	// keeps the one it has.
	if err := replace(filepath.Join(dir, name+".key"), "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	return replace(filepath.Join(dir, name+".crt"), "CERTIFICATE", der, 0o644)
}

// replace writes a file whole or not at all.
func replace(path, kind string, der []byte, mode os.FileMode) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

func readPair(certificate, key string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	all, err := readCertificates(certificate)
	if err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(key)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, nil, fmt.Errorf("%s holds no PEM", key)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", key, err)
	}
	secret, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !secret.PublicKey.Equal(all[0].PublicKey) {
		return nil, nil, fmt.Errorf("%s is not the key of %s", key, certificate)
	}
	return all[0], secret, nil
}

// readCertificates of a PEM file, at least one.
func readCertificates(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return all, nil
}

// Certificates of a file, for people.
func Certificates(path string) ([]*x509.Certificate, error) { return readCertificates(path) }
