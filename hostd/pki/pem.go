package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Secret fails unless the owner alone has rights to the file of a secret, and is this
// process's user or root. what names it in the error.
func Secret(what, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the %s %s is accessible to users other than its owner (mode %#o); change its mode to 0600", what, path, mode)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("the %s %s belongs to user %d, who can read and change it, and this process runs as user %d; change its owner", what, path, s.Uid, os.Geteuid())
	}
	return nil
}

// readPEM reads a file as other programs write them too: with a byte order mark, with
// any line ends, with blanks around lines and text between blocks.
func readPEM(path string) (text []byte, blocks []*pem.Block, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(raw, []byte{0xff, 0xfe}), bytes.HasPrefix(raw, []byte{0xfe, 0xff}):
		return nil, nil, fmt.Errorf("%s is UTF-16 text; save it as plain text (ASCII)", path)
	case bytes.HasPrefix(raw, []byte{0x30}) && !bytes.Contains(raw, []byte("-----BEGIN")):
		return nil, nil, fmt.Errorf("%s is DER or PKCS#12, not PEM; openssl converts it (openssl x509 or pkey -inform der, openssl pkcs12 -nodes)", path)
	}
	text = plain(raw)
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return text, blocks, nil
		}
		blocks = append(blocks, block)
	}
}

var byteOrderMark = []byte("\ufeff")

// plain text has lines that end with \n, without blanks around them.
func plain(raw []byte) []byte {
	text := bytes.ReplaceAll(raw, byteOrderMark, nil)
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	lines := bytes.Split(bytes.ReplaceAll(text, []byte("\r"), []byte("\n")), []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSpace(lines[i])
	}
	return append(bytes.Join(lines, []byte("\n")), '\n')
}

func isKey(b *pem.Block) bool { return strings.HasSuffix(b.Type, "PRIVATE KEY") }

func isCertificate(b *pem.Block) bool { return b.Type == "CERTIFICATE" }

func count(blocks []*pem.Block, of func(*pem.Block) bool) (n int) {
	for _, b := range blocks {
		if of(b) {
			n++
		}
	}
	return n
}

// keyBlock is the one private key of a file, not encrypted.
func keyBlock(path string) (*pem.Block, error) {
	_, blocks, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	switch n := count(blocks, isKey); {
	case n == 0 && len(blocks) > 0:
		return nil, fmt.Errorf("%s holds a %s, not a private key", path, blocks[0].Type)
	case n == 0:
		return nil, fmt.Errorf("%s holds no private key in PEM", path)
	case n > 1:
		return nil, fmt.Errorf("%s holds %d private keys; keep only the one of the certificate", path, n)
	}
	for _, b := range blocks {
		switch {
		case !isKey(b):
		case b.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, fmt.Errorf("the key %s is encrypted, and a daemon cannot be asked for its password; decrypt it (openssl pkey -in FILE -out FILE) and keep it 0600", path)
		case b.Type == "OPENSSH PRIVATE KEY":
			return nil, fmt.Errorf("the key %s is in OpenSSH format; convert it to PEM (ssh-keygen -p -m PEM, or a new key)", path)
		default:
			return b, nil
		}
	}
	return nil, fmt.Errorf("%s holds no private key", path)
}

// keyPair reads a certificate, with those between it and its authority, and its key.
func keyPair(certPath, keyPath string) (tls.Certificate, error) {
	text, blocks, err := readPEM(certPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	certificates := count(blocks, isCertificate)
	if begun := strings.Count(string(text), "-----BEGIN CERTIFICATE-----"); begun != certificates {
		return tls.Certificate{}, fmt.Errorf("%s: %d of its %d certificates cannot be read: the file is cut short or damaged", certPath, begun-certificates, begun)
	}
	if certificates == 0 {
		return tls.Certificate{}, noCertificate(certPath, keyPath, blocks)
	}
	key, err := keyBlock(keyPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	own, err := tls.X509KeyPair(text, pem.EncodeToMemory(key))
	if err != nil {
		return own, misplaced(blocks, key, err)
	}
	return own, nil
}

func noCertificate(certPath, keyPath string, blocks []*pem.Block) error {
	if _, other, err := readPEM(keyPath); err == nil && count(blocks, isKey) > 0 && count(other, isCertificate) > 0 {
		return fmt.Errorf("%s holds the key and %s the certificate: they are swapped", certPath, keyPath)
	}
	if len(blocks) > 0 {
		return fmt.Errorf("%s holds a %s, not a certificate", certPath, blocks[0].Type)
	}
	return fmt.Errorf("%s holds no certificate in PEM", certPath)
}

// misplaced says so if the key is that of a later certificate in the file.
func misplaced(blocks []*pem.Block, key *pem.Block, err error) error {
	n := 0
	for _, b := range blocks {
		if !isCertificate(b) {
			continue
		}
		if n++; n == 1 {
			continue
		}
		if _, fits := tls.X509KeyPair(pem.EncodeToMemory(b), pem.EncodeToMemory(key)); fits == nil {
			return fmt.Errorf("the key belongs to certificate %d in the file: put that certificate first, before its authorities (%w)", n, err)
		}
	}
	return err
}

// readKey reads an ECDSA key.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	block, err := keyBlock(path)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is not a PKCS #8 key", path), err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ECDSA key", path)
	}
	return key, nil
}
