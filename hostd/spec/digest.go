package spec

import (
	"crypto/sha256"
	"fmt"
)

// Digest identifies what the specification says, whatever its layout,
// comments or omitted defaults: the SHA-256 of what Marshal writes, in
// hexadecimal.
func (m Machine) Digest() (string, error) {
	b, err := m.Marshal()
	if err != nil {
		return "", fmt.Errorf("digest of machine %s: %w", m.Name, err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}
