package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestDaemonKeepsFewPrivileges reads what the kernel says of the processes.
func TestDaemonKeepsFewPrivileges(t *testing.T) {
	s := newStage(t, time.Minute, scene.Options{})
	s.start()
	daemon, err := s.A.Daemon()
	s.must(err)
	const netAdmin, netRaw, dacOverride, kill = 1 << 12, 1 << 13, 1 << 1, 1 << 5
	const all = netAdmin | netRaw | dacOverride | kill
	if got := capabilities(t, daemon.PID); got != all {
		t.Errorf("the daemon has capabilities %#x, want %#x", got, all)
	}
	s.must(scene.Until(s.ctx, func() bool {
		supervisor, err := s.A.Supervisor()
		return err == nil && capabilities(t, supervisor.PID)&^all == 0
	}))
}

// capabilities that a process may use or get.
func capabilities(t *testing.T, pid int) (all uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ^uint64(0)
	}
	for _, line := range strings.Split(string(b), "\n") {
		key, value, _ := strings.Cut(line, ":")
		if key == "CapEff" || key == "CapPrm" || key == "CapBnd" {
			var set uint64
			fmt.Sscanf(strings.TrimSpace(value), "%x", &set)
			all |= set
		}
	}
	return all
}
