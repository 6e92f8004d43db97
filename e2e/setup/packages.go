//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// pkg is a Debian package with a file that shows that it is there.
type pkg struct{ name, file string }

// needed on every machine; iproute2 is for looking into a lab by hand. What
// guests are made of is not installed, see package images.
var needed = []pkg{
	{"gcc", "/usr/bin/gcc"},
	{"libc6-dev", "/usr/include/pthread.h"},
	{"iproute2", "/sbin/ip"},
	{"spin", "/usr/bin/spin"},
}

// packages installs what is missing, and reads apt's lists where there are
// none: the guest kernel comes from there.
func packages(ctx context.Context) error {
	if err := install(ctx, needed); err != nil {
		return err
	}
	if candidate(ctx, "linux-image-cloud-amd64") != "" {
		return nil
	}
	return update(ctx)
}

func install(ctx context.Context, wanted []pkg) error {
	var absent []string
	for _, p := range wanted {
		if _, err := os.Stat(p.file); err != nil {
			absent = append(absent, p.name)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	for _, name := range absent {
		if candidate(ctx, name) != "" {
			continue
		}
		if err := update(ctx); err != nil {
			return err
		}
		break
	}
	what := "installing " + strings.Join(absent, ", ")
	args := append([]string{"install", "-q", "-y", "--no-install-recommends"}, absent...)
	if err := apt(ctx, what, args...); err == nil || ctx.Err() != nil {
		return err
	}
	// Old lists name packages that the mirror no longer has.
	if err := update(ctx); err != nil {
		return err
	}
	return apt(ctx, what, args...)
}

func update(ctx context.Context) error {
	return apt(ctx, "reading the lists of Debian packages", "update", "-q")
}

func apt(ctx context.Context, what string, args ...string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: %w", what, errors.New("needs root"))
	}
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return step(what, cmd)
}

// candidate is the version that apt would install; "" where it knows none.
func candidate(ctx context.Context, name string) string {
	cmd := exec.CommandContext(ctx, "apt-cache", "policy", name)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return candidateIn(string(out))
}

func candidateIn(policy string) string {
	for line := range strings.Lines(policy) {
		if v, found := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); found && v != "(none)" {
			return v
		}
	}
	return ""
}
