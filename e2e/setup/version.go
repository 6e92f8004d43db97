//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// version of QEMU: major, minor, patch.
type version [3]int

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

var versionPattern = regexp.MustCompile(`(?:version |^\d+:|^)(\d+)\.(\d+)\.(\d+)`)

// parseVersion reads what QEMU prints ("QEMU emulator version 10.0.13 (Debian
// 1:10.0.13+ds-0+deb13u1)") or what apt calls it ("1:10.0.13+ds-0+deb13u1").
func parseVersion(text string) (v version, ok bool) {
	m := versionPattern.FindStringSubmatch(text)
	if m == nil {
		return v, false
	}
	for i := range v {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

// check asks a QEMU for its version; an error says why it is not to be used as
// one of the series.
func (s series) check(ctx context.Context, qemu string) (version, error) {
	out, err := exec.CommandContext(ctx, qemu, "--version").CombinedOutput()
	if err != nil {
		return version{}, fmt.Errorf("run %s: %w\n%s", qemu, err, out)
	}
	v, ok := parseVersion(string(out))
	switch {
	case !ok:
		return v, fmt.Errorf("%s tells no version: %q", qemu, out)
	case !s.good(v):
		return v, fmt.Errorf("%s is %s; wanted is %s", qemu, v, s.want)
	}
	return v, nil
}
