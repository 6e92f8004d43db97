package guestagent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFindChannel(t *testing.T) {
	class := t.TempDir()
	for port, name := range map[string]string{"vport0p1": "com.redhat.spice.0", "vport1p2": DefaultChannel} {
		dir := filepath.Join(class, port)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if path, err := findChannel(class, DefaultChannel); path != "/dev/vport1p2" || err != nil {
		t.Error(path, err)
	}
	if _, err := findChannel(class, "other"); !errors.Is(err, errNoChannel) {
		t.Error(err)
	}
}
