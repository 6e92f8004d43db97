package daemon_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
)

// withMounts is set in the process that has mounts of its own.
const withMounts = "STILLPOINT_TEST_OWN_MOUNTS"

// ownMounts runs the test again in a process whose mounts nobody else sees, and
// reports whether this is that process.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(withMounts) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), withMounts+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("no mount namespace to be had: ", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// tmpfs is mounted on a directory, in the namespace that ownMounts has made.
func tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(dir, 0o700), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", dir, "tmpfs", 0, options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// TestNoRoomForAStandby: a machine of 16 MiB, and 24 at its standby's host, where
// another machine has its 16.
func TestNoRoomForAStandby(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	a, b := pairOfHostsWith(t, func(c *config.Config) {
		if c.Host == "b" {
			tmpfs(t, c.RAMDir, "size=24m,mode=0700")
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
