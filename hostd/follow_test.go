package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// TestTheArbiterOfTheLastDaemonIsFollowed: a process that outlives daemons asks
// the arbiter of the one that has come last, and keeps it through a
// configuration that no daemon can have.
func TestTheArbiterOfTheLastDaemonIsFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := pki.Init(filepath.Join(dir, "pki"), pki.InitOptions{Hosts: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hostd.yaml")
	configure := func(records string) {
		text := fmt.Sprintf("host: a\nlisten: 127.0.0.1:7600\narbiter: {directory: %s}\ntls: {ca: %[2]s/ca.crt, cert: %[2]s/a.crt, key: %[2]s/a.key}\n",
			records, filepath.Join(dir, "pki"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, voice := range []string{"old", "new"} {
		records := filepath.Join(dir, voice)
		if err := os.Mkdir(records, 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := arbiter.OpenDirectory(records)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.TestAndSet(t.Context(), 0, arbiter.Record{Machine: "nat", Voice: voice}); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	configure(filepath.Join(dir, "old"))
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := follow(c, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	says := func(want string) {
		t.Helper()
		if r, err := f.Current(t.Context(), "nat"); err != nil || r.Voice != want {
			t.Errorf("got %+v, %v, want %s", r, err, want)
		}
	}
	says("old")
	configure(filepath.Join(dir, "new"))
	says("old") // no daemon has read it yet
	f.reread()
	says("new")
	configure("nowhere")
	f.reread()
	says("new")
}
