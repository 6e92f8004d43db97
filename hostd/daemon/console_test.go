package daemon_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const forEver = "prints=1000000000000"

func (h *host) startWithConsole(name, mode, file string) error {
	_, err := h.client.StartMachine(h.ctx(), &control.StartMachineRequest{Spec: []byte(specOf(name, mode) + "console: " + file + "\n"), File: name + ".yaml"})
	return err
}

// lastLine that a console's files have, whole.
func lastLine(file string) string {
	older, _ := os.ReadFile(file + ".1")
	newer, _ := os.ReadFile(file)
	all := append(older, newer...)
	end := bytes.LastIndexByte(all, '\n')
	return string(all[bytes.LastIndexByte(all[:max(end, 0)], '\n')+1 : max(end, 0)])
}

// moves waits until the guest has printed something new.
func (h *host) moves(file string) {
	h.t.Helper()
	before := lastLine(file)
	h.await("a new line of the console", func() bool {
		now := lastLine(file)
		return now != before && strings.HasPrefix(now, "line ")
	})
}

// TestAGuestThatPrintsForEver fills no disk and holds up nobody, and its console is
// kept while there is no daemon, and after.
func TestAGuestThatPrintsForEver(t *testing.T) {
	const limit = 64 << 10
	a, _ := pairOfHostsWith(t, func(c *config.Config) { c.Limits.Console = limit })
	file := filepath.Join(t.TempDir(), "console")
	if err := a.startWithConsole("m", forEver, file); err != nil {
		t.Fatal(err)
	}
	a.moves(file)
	a.restart(func() { a.moves(file) })
	a.await("the machine", func() bool { return a.machine("m").Role == "unprotected" })
	if err := a.protect("m", "b"); err != nil {
		t.Error(err)
	}
	a.moves(file)
	a.await("an older part", func() bool { _, err := os.Stat(file + ".1"); return err == nil })
	for _, path := range []string{file, file + ".1"} {
		if info, err := os.Stat(path); err == nil && info.Size() > limit/2 {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
}

// TestAQEMUThatSaysTooMuch fills no disk, with a daemon or without, and its end is told
// with its last words.
func TestAQEMUThatSaysTooMuch(t *testing.T) {
	const limit = 64 << 10
	a, _ := pairOfHostsWith(t, func(c *config.Config) { c.Limits.Console = limit })
	file := filepath.Join(a.config.StateDir, "machines", "m.qemu.log")
	a.mustStart("m", "says=1000000000000")
	bounded := func() {
		t.Helper()
		a.await("an older part, or more than fits", func() bool {
			_, err := os.Stat(file + ".1")
			info, _ := os.Stat(file)
			return err == nil || info != nil && info.Size() > limit
		})
		for _, path := range []string{file, file + ".1"} {
			if info, err := os.Stat(path); err == nil && info.Size() > limit/2 {
				t.Fatalf("%s has %d bytes", path, info.Size())
			}
		}
		a.moves(file)
	}
	bounded()
	a.restart(bounded)
	a.await("the machine", func() bool { return a.machine("m").Role == "unprotected" })
	bounded()
	// What an earlier one has said is not taken for what the next one says.
	if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
		t.Fatal(err)
	}
	a.mustStart("m", "")
	if b, err := os.ReadFile(file); err != nil || len(b) > 0 {
		t.Errorf("the log begins with %q, %v", b, err)
	}
	if _, err := os.Stat(file + ".1"); err == nil {
		t.Error("the older part is an earlier QEMU's")
	}
}

// TestAConsolesKeeperThatDies costs the console and nothing else.
func TestAConsolesKeeperThatDies(t *testing.T) {
	a, _ := pairOfHosts(t)
	file := filepath.Join(t.TempDir(), "console")
	if err := a.startWithConsole("m", forEver, file); err != nil {
		t.Fatal(err)
	}
	a.moves(file)
	pid := a.machine("m").QemuPid
	keeper := childWith(t, file)
	if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.await("the keeper's end", func() bool { return !runs(keeper) })
	if err := a.protect("m", "b"); err != nil {
		t.Error(err)
	}
	if m := a.machine("m"); m == nil || m.QemuPid != pid {
		t.Errorf("the machine is %v", m)
	}
}

// childWith is this process's child that has the argument.
func childWith(t *testing.T, argument string) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		b, _ := os.ReadFile(path)
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
		if bytes.Contains(b, []byte("\x00"+argument+"\x00")) && bytes.Contains(stat, fmt.Appendf(nil, "PPid:\t%d\n", os.Getpid())) {
			var pid int
			fmt.Sscanf(path, "/proc/%d/", &pid)
			return pid
		}
	}
	t.Fatal("no such child")
	return 0
}

// TestAConsoleThatCannotBeKept is told before anything runs.
func TestAConsoleThatCannotBeKept(t *testing.T) {
	a, _ := pairOfHosts(t)
	for what, file := range map[string]string{"a directory": t.TempDir(), "in none": filepath.Join(t.TempDir(), "none", "console")} {
		mustFail(t, a.startWithConsole("m", "", file), codes.Internal, "console", file)
		if m := a.machine("m"); m != nil {
			t.Errorf("%s: the machine is %v", what, m)
		}
	}
}
