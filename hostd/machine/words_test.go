package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// TestLastWords are the end of what was printed, in whichever of the two files it is.
func TestLastWords(t *testing.T) {
	m := newMachine(Options{Spec: spec.Machine{Name: "m"}, StateDir: t.TempDir()})
	if err := m.lastWords(); err != nil {
		t.Errorf("of no file: %v", err)
	}
	long := strings.Repeat("0123456789", 100)
	for _, c := range [][3]string{
		{"", "\n", ""}, {"", "short\n", "short"}, {"older\n", "", "older"}, {"older\n", "newer\n", "older\nnewer"},
		{"", long, "…" + long[400:]}, {long, "end", "…" + long[403:] + "end"}, {"older\n", long, "…" + long[400:]},
	} {
		for path, text := range map[string]string{m.outputFile() + olderPart: c[0], m.outputFile(): c[1]} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := fmt.Sprint(m.lastWords()); got != c[2] && (c[2] != "" || got != "<nil>") {
			t.Errorf("%q and %q: %q", c[0], c[1], got)
		}
	}
}

// TestTheReasonHasTheLastWords, which a keeper that is slow has to write first.
func TestTheReasonHasTheLastWords(t *testing.T) {
	dir := t.TempDir()
	o := Options{Spec: spec.Machine{Name: "m", Memory: 1 << 20}, Binary: dir + "/qemu", RunDir: dir + "/run", RAMDir: dir + "/ram", StateDir: dir + "/state", Log: hclog.NewNullLogger(),
		Keep: func(files []string) *exec.Cmd { return exec.Command(dir+"/keeper", files...) }}
	for name, script := range map[string]string{"qemu": "echo no such device >&2; exit 7", "keeper": `said=$(cat <&3); sleep 0.3; echo "$said" >>"$1"`} {
		if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Start(t.Context(), o)
	wantError(t, err, "exit status 7", "no such device")
}

// TestWhyQEMUEnded: also of one that ends with success and prints nothing.
func TestWhyQEMUEnded(t *testing.T) {
	for _, c := range []struct {
		err, words error
		want       string
	}{
		{nil, nil, "QEMU ended: with success: the guest has powered itself off, or QEMU was told to quit"},
		{errors.New("exit status 1"), nil, "QEMU ended: exit status 1"},
		{errors.New("exit status 1"), errors.New("no room"), "QEMU ended: exit status 1\nno room"},
	} {
		if got := whyEnded(c.err, c.words).Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
