package daemon_test

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// restart ends the daemon in good order and begins another, after something has
// happened in between.
func (h *host) restart(between func()) { h.t.Helper(); h.restartWith(fault.None, between) }

func (h *host) restartWith(faults fault.Hook, between func()) {
	h.t.Helper()
	h.end()
	if err := <-h.served; err != nil {
		h.t.Fatal(err)
	}
	between()
	h.serveWith(faults)
	h.awaitServing()
}

func (h *host) record(machine string) arbiter.Record {
	h.t.Helper()
	r, err := h.store.Current(h.ctx(), machine)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// TestANewDaemonAdopts what is its own. It claims that anew: a claim of the last
// daemon that is still on its way must lose.
func TestANewDaemonAdopts(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	left, stands := a.machine("m").QemuPid, a.record("m")
	a.restart(func() {})
	a.await("the machine", func() bool { return a.machine("m").Role != "left" })
	m := a.machine("m")
	if m.Role != "unprotected" || m.QemuPid != left || m.Generation != stands.Generation+1 {
		t.Errorf("%v; its QEMU was %d, its generation %d", m, left, stands.Generation)
	}
	if r := a.record("m"); r.Voice != "a" || r.Generation != m.Generation {
		t.Errorf("the arbiter says %+v", r)
	}
	late := arbiter.Record{Machine: "m", Generation: stands.Generation + 1, Voice: "a", Standby: "b", Kind: "pair"}
	if _, err := a.store.TestAndSet(a.ctx(), stands.Generation, late); err == nil {
		t.Error("a claim of the last daemon won")
	}
}

// TestANewDaemonEndsWhatIsAnothers.
func TestANewDaemonEndsWhatIsAnothers(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	left := int(a.machine("m").QemuPid)
	a.restart(func() {
		stands := a.record("m")
		taken := arbiter.Record{Machine: "m", Generation: stands.Generation + 1, Voice: "b", Kind: "takeover"}
		if _, err := a.store.TestAndSet(a.ctx(), stands.Generation, taken); err != nil {
			t.Fatal(err)
		}
	})
	a.await("its QEMU to end", func() bool { return syscall.Kill(left, 0) == syscall.ESRCH })
	a.gone("m")
}

func runs(pid int) bool { return syscall.Kill(pid, 0) == nil }

// anotherArbiter has no record of the machine but the one that is given.
func anotherArbiter(t *testing.T, first arbiter.Record) *arbiter.Directory {
	t.Helper()
	d, err := arbiter.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if first.Machine != "" {
		if _, err := d.TestAndSet(t.Context(), 0, first); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// TestAnArbiterThatHasForgotten ends no machine: it waits, silent, and says why,
// until the arbiter is the right one again or an operator decides.
func TestAnArbiterThatHasForgotten(t *testing.T) {
	for name, first := range map[string]arbiter.Record{
		"all of it":       {},
		"this generation": {Machine: "m", Generation: 1, Voice: "b", Kind: "started"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := pairOfHosts(t)
			a.mustStart("m", "")
			if first.Machine != "" { // generation 3 by now
				if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
					t.Fatal(err)
				}
				a.mustStart("m", "")
			}
			pid := int(a.machine("m").QemuPid)
			a.restart(func() { a.asked = anotherArbiter(t, first) })
			a.await("the reason", func() bool {
				m := a.machine("m")
				return m.Role == "left" && len(m.Warnings) == 1 && strings.Contains(m.Warnings[0], "has lost what it granted")
			})
			mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "waits to be adopted")
			if !runs(pid) {
				t.Error("the machine's QEMU has ended")
			}
			a.restart(func() { a.asked = a.store })
			a.await("the machine to be adopted", func() bool { return a.machine("m").Role == "unprotected" })
			if m := a.machine("m"); int(m.QemuPid) != pid {
				t.Errorf("%v; its QEMU was %d", m, pid)
			}
		})
	}
}

// TestAnOperatorDecides what becomes of a machine whose arbiter has forgotten it.
func TestAnOperatorDecides(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	a.mustStart("n", "")
	m, n := int(a.machine("m").QemuPid), int(a.machine("n").QemuPid)
	empty := anotherArbiter(t, arbiter.Record{})
	a.restart(func() { a.asked = empty })
	got, err := a.start("m", "")
	if err != nil || int(got.QemuPid) != m || got.Role != "unprotected" {
		t.Errorf("vm start: %v, %v; its QEMU was %d", got, err, m)
	}
	if r, err := empty.Current(a.ctx(), "m"); err != nil || r.Voice != "a" {
		t.Errorf("the arbiter says %+v, %v", r, err)
	}
	if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "n"}); err != nil {
		t.Error(err)
	}
	if a.machine("n") != nil || runs(n) {
		t.Error("a machine that was stopped is still there")
	}
}

// TestAMachineThatCannotBeAdopted is claimed by nobody, is listed, and can be
// stopped.
func TestAMachineThatCannotBeAdopted(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	pid, before := int(a.machine("m").QemuPid), a.record("m")
	var busy net.Conn
	a.restart(func() {
		var err error
		if busy, err = net.Dial("unix", filepath.Join(a.config.RunDir, "m.qmp")); err != nil {
			t.Fatal(err)
		}
		if _, err := busy.Read(make([]byte, 1)); err != nil { // QEMU serves one monitor at a time
			t.Fatal(err)
		}
	})
	defer busy.Close()
	a.await("its QEMU to be found", func() bool { return int(a.machine("m").QemuPid) == pid })
	if r := a.record("m"); r.Generation != before.Generation {
		t.Errorf("the voice of a machine that was not adopted was claimed: %+v", r)
	}
	if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
		t.Error(err)
	}
	if a.machine("m") != nil || runs(pid) {
		t.Error("a machine that was stopped is still there")
	}
	if r := a.record("m"); r.Voice != "" {
		t.Errorf("the arbiter says %+v", r)
	}
}

// TestAMachineIsLeftAlone after ten tries, and says so. An operator has it tried again,
// once what was wrong is mended.
func TestAMachineIsLeftAlone(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	pid := a.machine("m").QemuPid
	var taken []net.Conn
	mend := func() {
		for _, c := range taken {
			c.Close()
		}
		taken = nil
	}
	defer func() { mend() }()
	a.restart(func() { // nobody else gets a connection to its monitor
		for {
			c, err := net.Dial("unix", filepath.Join(a.config.RunDir, "m.qmp"))
			if errors.Is(err, syscall.EAGAIN) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, c)
		}
	})
	a.await("the daemon to give up", func() bool {
		return strings.Contains(strings.Join(a.machine("m").Warnings, "\n"), "has failed 10 times and is not tried again")
	})
	if m := a.machine("m"); m.Role != "left" {
		t.Errorf("%v", m)
	}
	_, err := a.start("m", "")
	mustFail(t, err, codes.FailedPrecondition, "takes no connection")
	mend()
	a.await("the machine to be adopted", func() bool { _, err := a.start("m", ""); return err == nil })
	if m := a.machine("m"); m.Role != "unprotected" || m.QemuPid != pid {
		t.Errorf("%v; its QEMU was %d", m, pid)
	}
}

// TestATakeoverThatNeverRan: the voice was won, and the daemon, which alone had the last
// epoch whole, ended before the guest ran. The next one says so and gives the voice up.
func TestATakeoverThatNeverRan(t *testing.T) {
	a, b := pairOfHosts(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once, off sync.Once
	var log journal.Journal
	b.adjust = func(o *daemon.Options) { o.Log = log.Logger() }
	b.restartWith(func(label string, _ uint64) {
		if label == fault.TakingOver {
			once.Do(func() { close(reached) })
			<-goOn
		}
	}, func() {})
	t.Cleanup(func() { off.Do(func() { close(goOn) }) })
	a.mustProtect("m", "")
	pid := int(b.machine("m").QemuPid)
	took := make(chan error, 1)
	go func() { took <- b.takeover("m") }()
	<-reached
	b.end()
	<-took
	b.await("the takeover to be told to end, too", func() bool { return log.Count("this daemon ends") > 0 })
	off.Do(func() { close(goOn) })
	if err := <-b.served; err != nil {
		t.Fatal(err)
	}
	if !runs(pid) || b.record("m").Voice != "b" {
		t.Fatalf("QEMU runs: %v; the arbiter says %+v", runs(pid), b.record("m"))
	}
	b.serve()
	b.awaitServing()
	b.gone("m")
	if r := b.record("m"); r.Voice != "" || runs(pid) {
		t.Errorf("QEMU runs: %v; the arbiter says %+v", runs(pid), r)
	}
	events, err := b.client.Events(b.ctx(), &control.EventsRequest{Name: "m"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := events.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "machine-lost" {
			break
		}
	}
	b.mustStart("m", "")
}
