package machine

import (
	"fmt"
)

// TCG is the acceleration that every host has: none.
const TCG = "tcg"

// Acceleration resolves the configured acceleration. "auto" takes KVM where
// its device opens, for QEMU's user, too; whether a guest boots under it only a boot can tell, which
// vm start does: it fails with what QEMU says.
func Acceleration(configured string, user *User) (string, error) {
	return acceleration(configured, "/dev/kvm", user)
}

// acceleration never is another one only because QEMU's user may not use KVM.
func acceleration(configured, device string, user *User) (string, error) {
	if configured == TCG {
		return configured, nil
	}
	var daemons *User
	err := daemons.CanOpen(device, true)
	if err == nil && user != nil {
		if err := user.CanOpen(device, true); err != nil {
			return "", fmt.Errorf("qemu.accel is %s, and KVM cannot be used: %w (on most systems: usermod -aG kvm, and restart the daemon)", configured, err)
		}
	}
	switch {
	case configured == "kvm" && err != nil:
		return "", fmt.Errorf("qemu.accel is kvm, and KVM cannot be used: %w", err)
	case configured == "auto" && err == nil:
		return "kvm", nil
	case configured == "auto":
		return TCG, nil
	}
	return configured, nil
}
