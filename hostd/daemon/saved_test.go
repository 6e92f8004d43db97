package daemon_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

func (h *host) savedFile(machine string) string {
	return filepath.Join(h.config.StateDir, "machines", machine+".json")
}

// change the saved state of a machine as JSON.
func (h *host) change(machine string, by func(map[string]any)) {
	h.t.Helper()
	b, err := os.ReadFile(h.savedFile(machine))
	if err != nil {
		h.t.Fatal(err)
	}
	fields := map[string]any{}
	if err = json.Unmarshal(b, &fields); err == nil {
		by(fields)
		b, err = json.Marshal(fields)
	}
	if err == nil {
		err = os.WriteFile(h.savedFile(machine), b, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// warned waits until a machine that was left says why.
func (h *host) warned(machine string, says ...string) {
	h.t.Helper()
	h.await("machine "+machine+" to be left, with "+strings.Join(says, ", "), func() bool {
		m := h.machine(machine)
		if m == nil || m.Role != "left" {
			return false
		}
		for _, text := range says {
			if !strings.Contains(strings.Join(m.Warnings, "\n"), text) {
				return false
			}
		}
		return true
	})
}

// TestASavedStateThatCannotBeUsed costs no machine, and no other one waits for it. An
// operator has it go on, or ends it.
func TestASavedStateThatCannotBeUsed(t *testing.T) {
	for what, c := range map[string]struct {
		damage func(a *host) error
		says   string
	}{
		"missing": {func(a *host) error { return os.Remove(a.savedFile("m")) }, "is missing"},
		"empty":   {func(a *host) error { return os.Truncate(a.savedFile("m"), 0) }, "cannot be used"},
		"torn":    {func(a *host) error { return os.Truncate(a.savedFile("m"), 20) }, "cannot be used"},
		"a directory": {func(a *host) error {
			return errors.Join(os.Remove(a.savedFile("m")), os.MkdirAll(filepath.Join(a.savedFile("m"), "x"), 0o700))
		}, "is a directory"},
		"a link to nothing": {func(a *host) error {
			return errors.Join(os.Remove(a.savedFile("m")), os.Symlink("/nowhere", a.savedFile("m")))
		}, "cannot be used"},
		"another machine's": {func(a *host) error {
			a.change("m", func(f map[string]any) { f["spec"] = specOf("n", "") })
			return nil
		}, "is of machine n"},
		"a later version's": {func(a *host) error {
			a.change("m", func(f map[string]any) { f["spec"] = f["spec"].(string) + "\nteleports: true\n" })
			return nil
		}, "teleports"},
		"other types": {func(a *host) error { a.change("m", func(f map[string]any) { f["generation"] = "last" }); return nil }, "cannot be used"},
	} {
		t.Run(what, func(t *testing.T) {
			a, _ := pairOfHosts(t)
			a.mustStart("m", "dirty=5")
			a.mustStart("other", "")
			pid := int(a.machine("m").QemuPid)
			a.restart(func() {
				if err := c.damage(a); err != nil {
					t.Fatal(err)
				}
			})
			a.warned("m", c.says, a.savedFile("m"), "hostd vm start", "hostd vm stop m")
			a.await("the other machine", func() bool { return a.machine("other").Role == "unprotected" })
			_, err := a.start("m", "dirty=7")
			mustFail(t, err, codes.FailedPrecondition, "another specification", "dirty=7")
			if !runs(pid) {
				t.Fatal("the machine's QEMU has ended")
			}
			if what == "a directory" { // nothing can be saved there
				a.stops("m", pid)
				return
			}
			m, err := a.start("m", "dirty=5")
			if err != nil || int(m.QemuPid) != pid || m.Role != "unprotected" {
				t.Fatalf("vm start: %v, %v; its QEMU was %d", m, err, pid)
			}
			a.restart(func() {})
			a.await("the machine to be adopted", func() bool { m := a.machine("m"); return m.Role == "unprotected" && int(m.QemuPid) == pid })
		})
	}
}

func (h *host) stops(machine string, pid int) {
	h.t.Helper()
	if _, err := h.client.StopMachine(h.ctx(), &control.MachineRequest{Name: machine}); err != nil {
		h.t.Error(err)
	}
	if h.machine(machine) != nil || runs(pid) {
		h.t.Error("a machine that was stopped is still there")
	}
}

// TestASavedStateOfAnEarlierVersion has less in it, and is enough.
func TestASavedStateOfAnEarlierVersion(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	pid := int(a.machine("m").QemuPid)
	a.restart(func() {
		a.change("m", func(f map[string]any) {
			for name := range f {
				if name != "spec" {
					delete(f, name)
				}
			}
			f["unheard-of"] = 1
		})
	})
	a.await("the machine to be adopted", func() bool { m := a.machine("m"); return m.Role == "unprotected" && int(m.QemuPid) == pid })
}

// TestNoDirectoryOfSavedStates: the daemon starts, says so, and ends no machine.
func TestNoDirectoryOfSavedStates(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	pid := int(a.machine("m").QemuPid)
	dir := filepath.Dir(a.savedFile("m"))
	a.restart(func() {
		if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	a.warned("m", "is missing")
	if !runs(pid) {
		t.Fatal("the machine's QEMU has ended")
	}
	_, err := a.start("n", "")
	mustFail(t, err, codes.Internal, dir)
	a.restart(func() {
		if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
			t.Fatal(err)
		}
	})
	a.await("the machine to be adopted", func() bool { m := a.machine("m"); return m.Role == "unprotected" && int(m.QemuPid) == pid })
}

// TestALimitThatIsShortenedIsRemembered: an old primary may have the longer one still.
func TestALimitThatIsShortenedIsRemembered(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	a.restart(func() { a.config.Detection.Limit /= 4 })
	a.await("the next daemon to save its own", func() bool {
		saved := map[string]any{}
		b, err := os.ReadFile(a.savedFile("m"))
		if err != nil || json.Unmarshal(b, &saved) != nil || saved["generation"] != float64(a.record("m").Generation) || saved["generation"] == 1. {
			return false
		}
		if saved["limit"] != float64(detectionLimit) {
			t.Errorf("saved is %s", b)
		}
		return true
	})
}
