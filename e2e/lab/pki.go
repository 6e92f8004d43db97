package lab

import (
	"errors"
	"fmt"
	"path/filepath"
)

// makeTLS writes the certificates of all hosts and the witness.
func (l *Lab) makeTLS() error {
	var names []string
	for number := 1; number <= l.options.Hosts; number++ {
		names = append(names, hostName(number))
	}
	if l.options.etcd() {
		names = append(names, witnessName)
	}
	err := issue(l.pkiDir(), names)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the certificates of lab %s: %w", l.Name, err)
	}
	l.tls = true
	return nil
}

func (l *Lab) pkiDir() string { return filepath.Join(l.Dir, "pki") }

// tlsOf names the files of one node; nil if the lab has none.
func (l *Lab) tlsOf(name string) *TLSConfig {
	if !l.tls {
		return nil
	}
	return &TLSConfig{
		CA:   filepath.Join(l.pkiDir(), "ca.crt"),
		Cert: filepath.Join(l.pkiDir(), name+".crt"),
		Key:  filepath.Join(l.pkiDir(), name+".key"),
	}
}

// issue writes ca.crt, and NAME.crt and NAME.key for each name, into a
// directory. Where it cannot yet (errors.ErrUnsupported), configurations name
// no such files.
func issue(dir string, names []string) error {
	return errors.ErrUnsupported
}
