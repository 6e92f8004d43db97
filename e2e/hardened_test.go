package e2e

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

const consoleLimit = 64 << 10

// TestSandboxedMachines are protected, taken over and protected again, with a guest
// that prints more than its console may have. The sandbox is the default.
func TestSandboxedMachines(t *testing.T) { onEachQEMU(t, sandboxedMachines) }

func sandboxedMachines(t *testing.T, qemu string) {
	s := newStage(t, 2*time.Minute, scene.Options{QEMU: qemu, Configure: func(c *lab.Config) {
		c.Limits.Console = fmt.Sprint(consoleLimit)
	}})
	s.start()
	m := s.NAT()
	m.Append += " ignore_loglevel initcall_debug"
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	s.sandboxed(s.A)
	s.sandboxed(s.B)
	_, err := s.A.KillQEMU(scene.Machine)
	s.must(err)
	s.movedTo(s.B)
	s.flows(traffic, s.udp)
	s.sandboxed(s.A)
	s.sandboxed(s.B)
	if v := s.verdict(traffic).Verdict; v.Lost != 0 {
		t.Errorf("%d packets were lost", v.Lost)
	}
	s.consoleBounded(s.A)
}

// sandboxed: the kernel filters the system calls of each of QEMU's threads.
func (s *stage) sandboxed(h *lab.Host) {
	s.t.Helper()
	pid, err := h.QEMUPid(scene.Machine)
	s.must(err)
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	s.must(err)
	if !slices.ContainsFunc(strings.Split(string(arguments), "\x00"), func(a string) bool { return strings.HasPrefix(a, "on,") && strings.Contains(a, "spawn=deny") }) {
		s.t.Errorf("on host %s QEMU has the arguments %q", h.Name, arguments)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	s.must(err)
	for _, task := range tasks {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()))
		if err == nil && !bytes.Contains(status, []byte("\nSeccomp:\t2\n")) { // else it has ended
			s.t.Errorf("on host %s a thread of QEMU is without a filter:\n%s", h.Name, status)
		}
	}
}

// consoleBounded: the console has been more than fits, and its end is there.
func (s *stage) consoleBounded(h *lab.Host) {
	s.t.Helper()
	file := h.ConsoleFile(scene.Machine)
	for _, path := range []string{file, file + ".1"} {
		info, err := os.Stat(path)
		s.must(err)
		if info.Size() > consoleLimit/2 {
			s.t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
}
