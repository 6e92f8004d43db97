package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// The user of QEMU, whom no host knows.
const qemuUID, qemuGID = 64123, 64124

// TestMachinesOfAUserOfTheirOwn are protected, taken over, ended by a supervisor,
// adopted and protected again, and QEMU is never root.
func TestMachinesOfAUserOfTheirOwn(t *testing.T) { onEachQEMU(t, machinesOfAUser) }

func machinesOfAUser(t *testing.T, qemu string) {
	s := newStage(t, 4*time.Minute, scene.Options{QEMU: qemu, Configure: func(c *lab.Config) {
		c.QEMU.User = fmt.Sprintf("%d:%d", qemuUID, qemuGID)
		userReaches(t, c.QEMU.Binary)
	}})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	s.ofUser(s.A)
	s.ofUser(s.B)
	_, err := s.A.KillQEMU(scene.Machine)
	s.must(err)
	s.movedTo(s.B)
	s.flows(traffic, s.udp)
	s.ofUser(s.A)
	s.ofUser(s.B)
	s.sandboxed(s.B)
	if v := s.verdict(traffic).Verdict; v.Lost != 0 {
		t.Errorf("%d packets were lost", v.Lost)
	}
	s.endedBySupervisor(s.B, s.A)
	s.adopted(s.A)
	_, err = s.A.StopMachine(s.ctx, scene.Machine)
	s.must(err)
	for _, h := range []*lab.Host{s.A, s.B} {
		s.must(scene.Until(s.ctx, func() bool {
			_, err := h.QEMU(scene.Machine)
			return errors.Is(err, os.ErrProcessDone)
		}))
	}
	if left, _ := filepath.Glob(filepath.Join(s.A.RunDir, scene.Machine+".*")); len(left) > 0 {
		t.Errorf("left on host a: %v", left)
	}
}

// userReaches skips where the directories of the build are closed to others.
func userReaches(t *testing.T, qemu string) {
	t.Helper()
	command := exec.Command(qemu, "-version")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: qemuUID, Gid: qemuGID}}
	if out, err := command.CombinedOutput(); err != nil {
		t.Skipf("another user cannot run %s: %v: %s", qemu, err, out)
	}
}

// ofUser: every thread of QEMU is the user's, without privileges, and what the daemon
// made for it is nobody else's.
func (s *stage) ofUser(h *lab.Host) {
	s.t.Helper()
	pid, err := h.QEMUPid(scene.Machine)
	s.must(err)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	s.must(err)
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()))
		if err != nil {
			continue // it has ended
		}
		status := strings.Join(strings.Fields(string(b)), " ")
		for _, want := range []string{
			strings.Repeat(fmt.Sprintf(" %d", qemuUID), 4), strings.Repeat(fmt.Sprintf(" %d", qemuGID), 4),
			" Groups: NStgid:", " CapPrm: 0000000000000000 CapEff: 0000000000000000 ",
		} {
			if !strings.Contains(status, want) {
				s.t.Errorf("on host %s a thread of QEMU is without %q:\n%s", h.Name, want, b)
			}
		}
	}
	const root = 0
	s.owned(h.RunDir, root, 0o700)
	s.owned(h.RAMDir, root, 0o700)
	s.owned(filepath.Join(h.RAMDir, scene.Machine+".ram"), qemuUID, 0o600)
	s.owned(filepath.Join(h.RunDir, scene.Machine+".qemu"), qemuUID, 0o700)
	s.owned(filepath.Join(h.RunDir, scene.Machine+".qmp"), root, 0o700)
}

func (s *stage) owned(path string, uid uint32, mode os.FileMode) {
	s.t.Helper()
	info, err := os.Stat(path)
	s.must(err)
	if got := info.Sys().(*syscall.Stat_t).Uid; got != uid || info.Mode().Perm() != mode {
		s.t.Errorf("%s is of user %d with mode %#o, want %d and %#o", path, got, info.Mode().Perm(), uid, mode)
	}
}

// endedBySupervisor: where a daemon dies the other host takes over, and the
// supervisor ends the QEMU that is of no use any more.
func (s *stage) endedBySupervisor(h, other *lab.Host) {
	s.t.Helper()
	_, err := h.Kill()
	s.must(err)
	_, err = other.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
	s.must(scene.Until(s.ctx, func() bool {
		_, err := h.QEMU(scene.Machine)
		return errors.Is(err, os.ErrProcessDone)
	}))
	s.must(h.Restart(s.ctx))
	s.movedTo(other)
}

// adopted: a daemon finds the QEMU that the one before it left, and protects it.
func (s *stage) adopted(h *lab.Host) {
	s.t.Helper()
	m, err := h.Unprotect(s.ctx, scene.Machine)
	s.must(err)
	s.t.Logf("its role is %s", m.Role)
	before, err := h.QEMUPid(scene.Machine)
	s.must(err)
	_, err = h.Kill()
	s.must(err)
	s.must(h.Restart(s.ctx))
	_, err = h.WaitRole(s.ctx, scene.Machine, "unprotected")
	s.must(err)
	_, err = h.Protect(s.ctx, scene.Machine, s.B.Name)
	s.must(err)
	s.movedTo(h)
	if now, err := h.QEMUPid(scene.Machine); err != nil || now != before {
		s.t.Errorf("QEMU is process %d, and was %d: %v", now, before, err)
	}
	s.ofUser(h)
	s.ofUser(s.B)
}
