package daemon

import (
	"fmt"
	"os"
)

const accelTCG = "tcg"

// Acceleration resolves the configured acceleration. "auto" takes KVM where
// its device opens; whether a guest boots under it only a boot can tell, which
// vm start does: it fails with what QEMU says.
func Acceleration(configured string) (string, error) {
	file, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err == nil {
		file.Close()
	}
	switch {
	case configured == "kvm" && err != nil:
		return "", fmt.Errorf("qemu.accel is kvm, and KVM cannot be used: %w", err)
	case configured == "auto" && err == nil:
		return "kvm", nil
	case configured == "auto":
		return accelTCG, nil
	}
	return configured, nil
}
