package lab

import (
	"fmt"
	"path/filepath"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
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
	if err := pki.Init(l.pkiDir(), pki.InitOptions{Hosts: names}); err != nil {
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
