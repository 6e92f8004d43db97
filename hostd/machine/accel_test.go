package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAcceleration is never a slower one because QEMU's user may not use KVM.
func TestAcceleration(t *testing.T) {
	dir := t.TempDir()
	none, there := filepath.Join(dir, "none"), filepath.Join(dir, "kvm")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	user := &User{UID: 64123, GID: 64124}
	for _, c := range []struct {
		configured, device string
		user               *User
		want, says         string
	}{
		{"auto", none, nil, "tcg", ""}, {"auto", there, nil, "kvm", ""}, {"kvm", there, nil, "kvm", ""}, {"tcg", there, nil, "tcg", ""},
		{"kvm", none, nil, "", "qemu.accel is kvm"}, {"auto", none, user, "tcg", ""}, {"tcg", there, user, "tcg", ""},
		{"auto", there, user, "", "qemu.user, 64123:64124"}, {"kvm", there, user, "", "qemu.user, 64123:64124"},
	} {
		if c.user != nil && os.Geteuid() != 0 {
			continue // only root can become another user
		}
		got, err := acceleration(c.configured, c.device, c.user)
		if got != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %s for %v: %q, %v", c.configured, filepath.Base(c.device), c.user, got, err)
		}
	}
}
