package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/e2e/disk"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// TestNoRoomForAStandby: a machine of 16 MiB, and 24 at its standby's host, where
// another machine has its 16.
func TestNoRoomForAStandby(t *testing.T) {
	if !disk.Own(t) {
		return
	}
	a, b := pairOfHostsWith(t, func(c *config.Config) {
		if c.Host == "b" {
			disk.Tmpfs(t, c.RAMDir, "size=24m,mode=0700")
		}
	})
	b.mustStart("other", "")
	a.mustStart("m", "seed=4000")
	pid := a.machine("m").QemuPid
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "16 MiB", "8388608 bytes free of 24 MiB", b.config.RAMDir)
	if m := a.machine("m"); m.Role != "unprotected" || m.QemuPid != pid {
		t.Errorf("the machine is %v", m)
	}
	if m := b.machine("other"); m.Role != "unprotected" || m.QemuPid == 0 {
		t.Errorf("the other machine is %v", m)
	}
	if left, err := os.ReadDir(b.config.RAMDir); err != nil || len(left) != 1 {
		t.Errorf("left in ram-dir: %v, %v", left, err)
	}
	_, err := b.start("third", "")
	mustFail(t, err, codes.Internal, "16 MiB", "8388608 bytes free")
	if r := b.record("third"); r.Voice != "" {
		t.Errorf("the voice of a machine that was not started is %q's", r.Voice)
	}
}

// serveShortly is how a daemon ends that should not begin.
func serveShortly(h *host) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return daemon.Serve(ctx, options(h.config, h.asked))
}

// TestDirectoriesOfOthersAreRefused.
func TestDirectoriesOfOthersAreRefused(t *testing.T) {
	a, _ := pairOfHosts(t)
	for _, dir := range []string{a.config.RAMDir, a.config.RunDir, a.config.StateDir} {
		a.restart(func() {
			if err := os.Chmod(dir, 0o770); err != nil {
				t.Fatal(err)
			}
			err := serveShortly(a)
			if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "0700") {
				t.Errorf("%s is open to others: %v", dir, err)
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		})
	}
	if os.Geteuid() != 0 {
		return // only root can give a directory away
	}
	a.restart(func() {
		if err := os.Chown(a.config.RAMDir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if err := serveShortly(a); err == nil || !strings.Contains(err.Error(), "user 65534") {
			t.Errorf("ram-dir is another's: %v", err)
		}
		if err := os.Chown(a.config.RAMDir, os.Geteuid(), os.Getegid()); err != nil {
			t.Fatal(err)
		}
	})
	a.mustStart("m", "")
	info, err := os.Stat(a.config.RAMDir + "/m.ram")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the guest's memory is %v, %v", info.Mode(), err)
	}
}

// faulty is a pair whose host a has a directory on a file system that fails on demand.
func faulty(t *testing.T, f disk.Fault, dir func(*config.Config) *string, size int64) (a, b *host, d disk.Disk) {
	t.Helper()
	a, b = pairOfHostsWith(t, func(c *config.Config) {
		if c.Host == "a" {
			d = f.Mount(t, *dir(c), size)
		}
	})
	return a, b, d
}

// eachFault runs a test on file systems that fail in their several ways.
func eachFault(t *testing.T, test func(t *testing.T, f disk.Fault)) {
	t.Helper()
	if !disk.Own(t) {
		return
	}
	for _, f := range disk.Faults(t) {
		t.Run(f.Name, func(t *testing.T) { test(t, f) })
	}
}

func warns(m *control.Machine, text string) bool {
	return strings.Contains(strings.Join(m.Warnings, "\n"), text)
}

// TestAStateDirectoryThatFails: machines run on, and say that a restart would find them
// as they were; none is started that could not be found again. When the disk is well
// all of that is over.
func TestAStateDirectoryThatFails(t *testing.T) {
	eachFault(t, func(t *testing.T, f disk.Fault) {
		a, b, d := faulty(t, f, func(c *config.Config) *string { return &c.StateDir }, 2<<20)
		a.mustStart("m", "")
		a.mustStart("ended", "")
		b.mustStart("n", "")
		pid := a.machine("m").QemuPid
		d.Fail(t)
		if err := a.protect("m", "b"); err != nil {
			t.Fatal(err)
		}
		a.await("a warning", func() bool { return warns(a.machine("m"), "state-dir") && warns(a.machine("m"), f.Says) })
		_, err := a.start("x", "")
		mustFail(t, err, codes.Internal, f.Says, a.config.StateDir)
		if a.machine("x") != nil || a.record("x").Voice != "" {
			t.Error("something is left of a machine that was not started")
		}
		mustFail(t, b.protect("n", "a"), codes.FailedPrecondition, f.Says, a.config.StateDir)
		if m := b.machine("n"); m.Role != "unprotected" {
			t.Errorf("the machine that was not protected is %v", m)
		}
		a.stops("ended", int(a.machine("ended").QemuPid))
		if m := a.machine("m"); m.Role != "protected" || m.QemuPid != pid {
			t.Errorf("the machine is %v", m)
		}
		d.Mend(t)
		a.await("the warning to end", func() bool { return !warns(a.machine("m"), "state-dir") })
		a.mustStart("x", "")
		if err := b.protect("n", "a"); err != nil {
			t.Error(err)
		}
	})
}

// TestADaemonStartsOnAStateDirectoryThatFails, adopts what it can read of, and does so
// with the rest once the disk is well.
func TestADaemonStartsOnAStateDirectoryThatFails(t *testing.T) {
	eachFault(t, func(t *testing.T, f disk.Fault) {
		a, _, d := faulty(t, f, func(c *config.Config) *string { return &c.StateDir }, 2<<20)
		a.mustStart("m", "")
		pid := a.machine("m").QemuPid
		a.restart(func() { d.Fail(t) })
		a.await("the machine", func() bool {
			m := a.machine("m")
			return m != nil && m.QemuPid == pid && m.Role == "unprotected"
		})
		a.await("a warning", func() bool { return warns(a.machine("m"), f.Says) })
		d.Mend(t)
		a.await("the warning to end", func() bool { return !warns(a.machine("m"), "state-dir") })
		a.restart(func() {})
		a.await("the machine again", func() bool { m := a.machine("m"); return m != nil && m.QemuPid == pid && m.Role == "unprotected" })
	})
}

// TestARAMDirectoryThatFails: a machine that runs has its memory, also as a standby's;
// no other is started.
func TestARAMDirectoryThatFails(t *testing.T) {
	eachFault(t, func(t *testing.T, f disk.Fault) {
		if f.Name == "failing" {
			t.Skip("a page of memory that its device does not give is the end of QEMU: ram-dir is a tmpfs")
		}
		a, b, d := faulty(t, f, func(c *config.Config) *string { return &c.RAMDir }, 40<<20)
		a.mustStart("m", "seed=2000")
		pid := a.machine("m").QemuPid
		b.mustStart("n", "seed=2000")
		d.Fail(t)
		_, err := a.start("x", "")
		mustFail(t, err, codes.Internal, f.Says, a.config.RAMDir)
		mustFail(t, b.protect("n", "a"), codes.FailedPrecondition, f.Says, a.config.RAMDir)
		if err := a.protect("m", "b"); err != nil {
			t.Error(err)
		}
		if m := a.machine("m"); m.Role != "protected" || m.QemuPid != pid {
			t.Errorf("the machine is %v", m)
		}
		a.restart(func() {})
		b.await("the machine at its standby", func() bool { m := b.machine("m"); return m != nil && m.Role == "solo" })
		d.Mend(t)
		if err := b.protect("n", "a"); err != nil {
			t.Error(err)
		}
	})
}

// TestARunDirectoryThatFails: sockets that are there are reached, and a machine that
// runs is protected once there may be new ones.
func TestARunDirectoryThatFails(t *testing.T) {
	eachFault(t, func(t *testing.T, f disk.Fault) {
		a, _, d := faulty(t, f, func(c *config.Config) *string { return &c.RunDir }, 2<<20)
		a.mustStart("m", "")
		pid := a.machine("m").QemuPid
		d.Fail(t)
		protected := a.protect("m", "b")
		if f.Name == "read-only" {
			mustFail(t, protected, codes.FailedPrecondition, f.Says, a.config.RunDir)
			_, err := a.start("x", "")
			mustFail(t, err, codes.Internal, f.Says, a.config.RunDir)
		}
		if m := a.machine("m"); m == nil || m.QemuPid != pid {
			t.Errorf("the machine is %v", m)
		}
		d.Mend(t)
		if protected != nil {
			if err := a.protect("m", "b"); err != nil {
				t.Error(err)
			}
		}
		if m := a.machine("m"); m.Role != "protected" || m.QemuPid != pid {
			t.Errorf("the machine is %v", m)
		}
	})
}

// TestAConsolesDiskThatFails costs what is printed meanwhile, and nothing else.
func TestAConsolesDiskThatFails(t *testing.T) {
	eachFault(t, func(t *testing.T, f disk.Fault) {
		dir := filepath.Join(t.TempDir(), "consoles")
		d := f.Mount(t, dir, 2<<20)
		a, _ := pairOfHostsWith(t, func(c *config.Config) { c.Limits.Console = 256 << 10 }) // the guest alone fills no disk
		file := filepath.Join(dir, "m")
		if err := a.startWithConsole("m", forEver, file); err != nil {
			t.Fatal(err)
		}
		a.moves(file)
		pid := a.machine("m").QemuPid
		d.Fail(t)
		if f.Name == "read-only" { // at the standby, where a QEMU is started
			mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, file, f.Says)
			d.Mend(t)
		}
		if err := a.protect("m", "b"); err != nil {
			t.Error(err)
		}
		if f.Name != "read-only" {
			d.Mend(t)
			a.moves(file) // otherwise the standby's, of the same name here, has begun it anew
		}
		if m := a.machine("m"); m.Role != "protected" || m.QemuPid != pid {
			t.Errorf("the machine is %v", m)
		}
	})
}
