package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// TestAPasswordFileIsItsOwnersAlone, or the daemon does not start.
func TestAPasswordFileIsItsOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	if err := pki.Init(dir, pki.InitOptions{Hosts: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	own, err := pki.Load(pki.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "a.crt"), Key: filepath.Join(dir, "a.key")}, pki.Options{Host: "a"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	c.Arbiter = config.Arbiter{Endpoints: []string{"127.0.0.1:1"}, Username: "hostd", PasswordFile: file}
	o, err := etcdOptions(c, own)
	if err != nil || o.Username != "hostd" || o.Password != "open sesame" {
		t.Errorf("a file that is ours: name %q, password of %d bytes, %v", o.Username, len(o.Password), err)
	}
	refused := func(what string, says ...string) {
		t.Helper()
		o, err := etcdOptions(c, own)
		if o.Password != "" {
			t.Errorf("%s: its password is used", what)
		}
		for _, text := range append(says, "arbiter.password-file", c.Arbiter.PasswordFile) {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", what, err, text)
			}
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		refused("a file that others may open", "0600")
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // only root can give a file away
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		refused("another user's file", "user 65534")
	}
	c.Arbiter.PasswordFile = filepath.Join(dir, "none")
	refused("no file", "no such file")
}
