package accel

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// boot runs the kernel to its first line; nil means that it came. There is no
// root for the kernel: that it panics after its first lines does not matter.
func (p probe) boot(ctx context.Context, accel string) error {
	limit, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	cmd := exec.CommandContext(limit, p.qemu, "-accel", accel, "-m", "128M", "-nodefaults", "-display", "none",
		"-serial", "stdio", "-kernel", p.kernel, "-append", "console=ttyS0 panic=-1", "-no-reboot")
	cmd.WaitDelay = time.Second // a grandchild may hold the console open
	console := firstLine{seen: cancel}
	var complaint head
	cmd.Stdout, cmd.Stderr = &console, &complaint
	err := cmd.Run()
	switch {
	case console.found:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case limit.Err() != nil:
		return fmt.Errorf("a guest printed nothing within %v", p.patience)
	default:
		return fmt.Errorf("QEMU ended (%v): %s", err, strings.TrimSpace(string(complaint.text)))
	}
}

// head keeps the beginning of what is written.
type head struct{ text []byte }

func (h *head) Write(b []byte) (int, error) {
	const most = 1 << 14
	h.text = append(h.text, b[:min(len(b), most-len(h.text))]...)
	return len(b), nil
}

// firstLine notices a kernel's first line (linux_banner in init/version.c).
type firstLine struct {
	head
	found bool
	seen  func()
}

func (f *firstLine) Write(b []byte) (int, error) {
	n, err := f.head.Write(b)
	if !f.found && bytes.Contains(f.text, []byte("Linux version")) {
		f.found = true
		f.seen()
	}
	return n, err
}
