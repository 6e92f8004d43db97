package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
)

// create makes the files of pairs where there are none: all, or, if it fails,
// none.
func create(dir string, pairs []*pair) error {
	var made []string
	for _, p := range pairs {
		drafts, err := draft(dir, p)
		for _, d := range drafts {
			if err == nil {
				// A link replaces nothing, whoever else is at work here.
				if err = os.Link(d.temporary, d.final); err == nil {
					made = append(made, d.final)
				}
			}
			os.Remove(d.temporary)
		}
		if err != nil {
			remove(made)
			return err
		}
	}
	return syncDirectory(dir)
}

func remove(paths []string) {
	for _, p := range paths {
		os.Remove(p)
	}
}

// replace the files of a pair. The new ones are on the disk before either takes
// its place, the key first.
func replace(dir string, p *pair) error {
	drafts, err := draft(dir, p)
	for _, d := range drafts {
		if err == nil {
			err = os.Rename(d.temporary, d.final)
		}
		os.Remove(d.temporary)
	}
	if err != nil {
		return err
	}
	return syncDirectory(dir)
}

// drafted is a file that has not taken its place yet.
type drafted struct{ temporary, final string }

// draft writes a pair's files, whole and synced, under temporary names.
func draft(dir string, p *pair) ([]drafted, error) {
	key, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, err
	}
	var drafts []drafted
	for _, f := range []struct {
		ending, kind string
		der          []byte
		mode         os.FileMode
	}{{".key", "PRIVATE KEY", key, 0o600}, {".crt", "CERTIFICATE", p.certificate.Raw, 0o644}} {
		temporary, err := write(dir, &pem.Block{Type: f.kind, Bytes: f.der}, f.mode)
		if err != nil {
			for _, d := range drafts {
				os.Remove(d.temporary)
			}
			return nil, err
		}
		drafts = append(drafts, drafted{temporary, filepath.Join(dir, p.name+f.ending)})
	}
	return drafts, nil
}

// write a new file, which nobody else can open before it is whole.
func write(dir string, block *pem.Block, mode os.FileMode) (string, error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	err = errors.Join(pem.Encode(f, block), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
