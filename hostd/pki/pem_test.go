package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// TestFilesOfOtherPrograms are read as they write them.
func TestFilesOfOtherPrograms(t *testing.T) {
	bom := []byte("\xef\xbb\xbf")
	bag := []byte("Bag Attributes\n    friendlyName: a\n    localKeyID: 01 02\nKey Attributes: <No Attributes>\n")
	crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	for name, change := range map[string]func([]byte) []byte{
		"CRLF":                crlf,
		"CR":                  func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r")) },
		"byte order mark":     func(b []byte) []byte { return append(bytes.Clone(bom), b...) },
		"both":                func(b []byte) []byte { return append(bytes.Clone(bom), crlf(b)...) },
		"bag attributes":      func(b []byte) []byte { return append(bytes.Clone(bag), b...) },
		"indented":            func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\n    ")) },
		"blanks at the end":   func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte(" \t\n")) },
		"no line end":         func(b []byte) []byte { return bytes.TrimSpace(b) },
		"text after":          func(b []byte) []byte { return append(bytes.Clone(b), "that was it\n"...) },
		"bag, CRLF, and mark": func(b []byte) []byte { return append(bytes.Clone(bom), crlf(append(bytes.Clone(bag), b...))...) },
	} {
		t.Run(name, func(t *testing.T) {
			f := filesOf(authorityOf(t, "a"), "a")
			for _, path := range []string{f.CA, f.Cert} {
				put(t, path, 0o644, change(get(t, path)))
			}
			put(t, f.Key, 0o600, change(get(t, f.Key)))
			if _, err := Load(f, Options{Host: "a"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func ecOf(t *testing.T, path string) *ecdsa.PrivateKey {
	t.Helper()
	key, err := readKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestKindsOfKeys: SEC 1 with and without its parameters.
func TestKindsOfKeys(t *testing.T) {
	f := filesOf(authorityOf(t, "a"), "a")
	der, err := x509.MarshalECPrivateKey(ecOf(t, f.Key))
	if err != nil {
		t.Fatal(err)
	}
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	for _, parts := range [][][]byte{{sec1}, {parameters, sec1}} {
		put(t, f.Key, 0o600, parts...)
		if _, err := Load(f, Options{Host: "a"}); err != nil {
			t.Error(err)
		}
	}
}

// TestRSAKeys of an authority of the site: PKCS #1 and #8.
func TestRSAKeys(t *testing.T) {
	dir := authorityOf(t, "a")
	authority, err := readAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"a", Cluster},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.certificate, &key.PublicKey, authority.key)
	if err != nil {
		t.Fatal(err)
	}
	f := filesOf(dir, "a")
	put(t, f.Cert, 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for kind, der := range map[string][]byte{"RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(key), "PRIVATE KEY": pkcs8} {
		put(t, f.Key, 0o600, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		if _, err := Load(f, Options{Host: "a"}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestFilesThatMakeNoSense are told by what they are.
func TestFilesThatMakeNoSense(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, f Files)
		says  string
	}{
		"swapped": {func(t *testing.T, f Files) {
			cert, key := get(t, f.Cert), get(t, f.Key)
			put(t, f.Cert, 0o600, key)
			put(t, f.Key, 0o600, cert)
		}, "swapped"},
		"encrypted, PKCS #8": {func(t *testing.T, f Files) {
			put(t, f.Key, 0o600, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}))
		}, "is encrypted"},
		"encrypted, of old": {func(t *testing.T, f Files) {
			put(t, f.Key, 0o600, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1},
				Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}}))
		}, "is encrypted"},
		"OpenSSH": {func(t *testing.T, f Files) {
			put(t, f.Key, 0o600, pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte{1}}))
		}, "OpenSSH"},
		"two keys":          {func(t *testing.T, f Files) { put(t, f.Key, 0o600, get(t, f.Key), get(t, f.Key)) }, "2 private keys"},
		"a public key":      {func(t *testing.T, f Files) { put(t, f.Key, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY"})) }, "a PUBLIC KEY"},
		"an empty key":      {func(t *testing.T, f Files) { put(t, f.Key, 0o600, nil) }, "no private key"},
		"an empty cert":     {func(t *testing.T, f Files) { put(t, f.Cert, 0o644, nil) }, "no certificate"},
		"a cert of DER":     {func(t *testing.T, f Files) { b, _ := pem.Decode(get(t, f.Cert)); put(t, f.Cert, 0o644, b.Bytes) }, "is DER"},
		"a key of DER":      {func(t *testing.T, f Files) { b, _ := pem.Decode(get(t, f.Key)); put(t, f.Key, 0o600, b.Bytes) }, "is DER"},
		"UTF-16":            {func(t *testing.T, f Files) { put(t, f.Key, 0o600, []byte("\xff\xfe-\x00-\x00")) }, "UTF-16"},
		"a cert cut short":  {func(t *testing.T, f Files) { b := get(t, f.Cert); put(t, f.Cert, 0o644, b[:len(b)/2]) }, "cut short"},
		"authority's first": {func(t *testing.T, f Files) { put(t, f.Cert, 0o644, get(t, f.CA), get(t, f.Cert)) }, "put that certificate first"},
		"key in CA file":    {func(t *testing.T, f Files) { put(t, f.CA, 0o600, get(t, f.CA), get(t, f.Key)) }, "it may hold only certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			f := filesOf(authorityOf(t, "a"), "a")
			c.spoil(t, f)
			if _, err := Load(f, Options{Host: "a"}); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v: does not say %q", err, c.says)
			}
		})
	}
}

func TestSecretsOfOthersAreRefused(t *testing.T) {
	path := filesOf(authorityOf(t, "a"), "a").Key
	if err := Secret("password", path); err != nil {
		t.Error(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := Secret("password", path); err == nil || !strings.Contains(err.Error(), "the password "+path) || !strings.Contains(err.Error(), "0600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := Secret("key", path); err == nil || !strings.Contains(err.Error(), "user 65534") {
		t.Errorf("another's: %v", err)
	}
}
