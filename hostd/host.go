package main

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// hostLimit is how long systemd may take to say how the host is.
const hostLimit = 2 * time.Second

// hostGoesDown asks systemd, whose units end because the host does, or because somebody
// ended one (systemctl(1), is-system-running). Without systemd nobody can tell.
func hostGoesDown(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, hostLimit)
	defer cancel()
	said, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // fails but for "running"
	return strings.TrimSpace(string(said)) == "stopping"
}
