package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Values of Options.Sandbox.
const (
	SandboxAuto, SandboxOn, SandboxOff = "auto", "on", "off"
)

// sandboxArguments forbid QEMU the system calls that it does not need once it runs:
// old ones, to get more privileges, to start programs, and to change its priorities.
var sandboxArguments = []string{"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"}

// sandbox is what QEMU is started with: for auto nothing, where it knows no sandbox
// or the kernel has none.
func (m *Machine) sandbox(ctx context.Context) ([]string, error) {
	if m.o.Sandbox != SandboxAuto && m.o.Sandbox != SandboxOn {
		return nil, nil
	}
	err := sandboxes(ctx, m.o.Binary, m.user)
	switch {
	case err == nil:
		return sandboxArguments, nil
	case m.o.Sandbox == SandboxOn:
		return nil, fmt.Errorf("%w; set qemu.sandbox to auto or off, or install a QEMU with seccomp", err)
	}
	m.o.Log.Info("QEMU runs without a sandbox", "why", err)
	return nil, nil
}

// sandboxes fails unless this QEMU, and the kernel, can do with a sandbox.
func sandboxes(ctx context.Context, binary string, u *User) error {
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		return fmt.Errorf("the kernel has no seccomp filters: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// QEMU reads its arguments in order, and ends at the last.
	command := exec.CommandContext(ctx, binary, append(append([]string(nil), sandboxArguments...), "-version")...)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential()}
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s knows no sandbox: %w: %s", binary, err, strings.TrimSpace(string(out)))
	}
	return nil
}
