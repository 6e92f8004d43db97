// Package scene sets the lab's stage: hosts with their daemons, the NAT guest
// on host A, traffic through it. Demo, tests and benchmarks play on it.
package scene

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/accel"
	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
)

// Machine is the name of the protected machine.
const Machine = "nat"

// Ports of the server. What still waits for a slow guest when its traffic has ended
// is not taken for another's.
const (
	probePort = 7000
	tcpPort   = 7001
	bootPort  = 7002
	loadPort  = 7003
)

// Options of a Scene.
type Options struct {
	// Build is the project's build directory, which "make setup build" fills.
	Build string
	// Faults runs daemons that stop at labelled steps.
	Faults bool
	// QEMU is the series that runs the machines, 10.0 or 11; default: the one that
	// set-up made the default. QEMUs name others for some hosts.
	QEMU  string
	QEMUs map[string]string
	// Accel is kvm, tcg or auto (default): what a probe finds.
	Accel string
	// Hosts is their number: 2 (default), or 3 with a spare.
	Hosts int
	// Arbiter, ArbiterMembers and StateSize are as in lab.Options.
	Arbiter, ArbiterMembers string
	StateSize               int64
	// Configure changes the hosts' configuration before they start.
	Configure func(*lab.Config)
	// Files is where logs go; default: the directory for temporary files.
	Files string
}

// Scene is a lab with daemons.
type Scene struct {
	*lab.Lab
	A, B *lab.Host
	// C is the spare, nil where there are two hosts.
	C      *lab.Host
	Images lab.Images
	Accel  accel.Result
	// Pace of this machine: how dead peers and hanging QEMUs are detected here, and
	// what scenes do with their limits.
	Pace pace.Pace
}

// New removes what dead labs left and makes a lab. Its daemons do not run yet:
// see Start and StartWith, which run all of them and the witness at once.
func New(ctx context.Context, o Options) (*Scene, error) {
	if _, err := lab.Sweep(); err != nil {
		return nil, fmt.Errorf("remove what an earlier lab left: %w", err)
	}
	s := &Scene{Images: lab.ImagesIn(filepath.Join(o.Build, "images")), Pace: pace.Here()}
	qemu := QEMUProgram(o.Build, o.QEMU)
	s.Accel = accel.Result{Accel: o.Accel}
	if o.Accel == "" || o.Accel == "auto" {
		s.Accel = accel.Probe(ctx, qemu, s.Images.Kernel, filepath.Join(o.Build, "cache"))
	}
	binary := absolute(o.Build, "bin/hostd")
	if o.Faults {
		binary = absolute(o.Build, "bin/hostd-faults")
	}
	var err error
	s.Lab, err = lab.New(ctx, lab.Options{HostdBinary: binary, QEMU: qemu, Accel: s.Accel.Accel, HugePages: true, Dir: o.Files,
		Hosts: o.Hosts, Arbiter: o.Arbiter, ArbiterMembers: o.ArbiterMembers, StateSize: o.StateSize})
	if err != nil {
		return nil, err
	}
	s.A, s.B, s.C = s.Host("a"), s.Host("b"), s.Host("c")
	for _, h := range s.Hosts {
		spare(&h.Config)
		patient(&h.Config, s.Pace)
		if series := o.QEMUs[h.Name]; series != "" {
			h.Config.QEMU.Binary = QEMUProgram(o.Build, series)
		}
		if o.Configure != nil {
			o.Configure(&h.Config)
		}
	}
	return s, nil
}

// QEMUProgram is the program of a series of QEMU that set-up brought, of the
// default one if series is empty.
func QEMUProgram(build, series string) string {
	name := "bin/qemu-system-x86_64"
	if series != "" {
		name += "-" + series
	}
	return absolute(build, name)
}

// DefaultQEMU is the series that set-up made the default; empty if there is none.
func DefaultQEMU(build string) string {
	target, err := os.Readlink(QEMUProgram(build, ""))
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(filepath.Base(target), "qemu-system-x86_64-")
}

// Series of QEMU on which the tests run: the default one first, and older ones as
// long as it is the newest. Where the oldest is the default, newer ones are left out.
func Series(build string) []string {
	oldest, newest := "10.0", "11"
	if DefaultQEMU(build) != newest {
		return []string{oldest}
	}
	if _, err := os.Stat(QEMUProgram(build, oldest)); err != nil {
		return []string{newest} // set-up leaves it out on a slow machine
	}
	return []string{newest, oldest}
}

// patient lets a host of a slow machine wait longer before it believes that
// another is dead.
func patient(c *lab.Config, p pace.Pace) {
	c.Detection = lab.Detection{Heartbeat: p.Limit(50 * time.Millisecond).String(), Limit: p.Limit(DetectionLimit).String(),
		QEMU: p.Limit(hangingQEMU).String()}
}

// DetectionLimit is when a host of a scene believes that a silent peer is dead,
// hangingQEMU when it ends a QEMU that does not answer, at the reference's pace.
const (
	DetectionLimit = 500 * time.Millisecond
	hangingQEMU    = 5 * time.Second
)

// spare makes host C one, where there is a C.
func spare(c *lab.Config) {
	for i := range c.Peers {
		c.Peers[i].Spare = c.Peers[i].Name == "c"
	}
}

func absolute(build, name string) string {
	path := filepath.Join(build, name)
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// NAT is the specification of the NAT guest in oracle mode. The flags are
// added to its application's.
func (s *Scene) NAT(flags ...string) lab.Machine {
	m := lab.NATMachine(s.Images, append([]string{"-oracle",
		"-in-addr=" + lab.NATInside + "/24", "-out-addr=" + lab.NATOutside + "/24"}, flags...)...)
	off := false
	for i := range m.Ports {
		m.Ports[i].Offloads = &off
	}
	return m
}

// Boot starts a machine on host A and waits until packets pass through it.
func (s *Scene) Boot(ctx context.Context, m lab.Machine) error { return s.BootOn(ctx, s.A, m) }

// BootOn starts a machine on a host and waits until packets pass through it.
func (s *Scene) BootOn(ctx context.Context, h *lab.Host, m lab.Machine) error {
	if _, err := h.StartMachine(ctx, m); err != nil {
		return err
	}
	if err := s.AwaitPackets(ctx); err != nil {
		return s.Explain(fmt.Errorf("the guest does not forward: %w", err))
	}
	return nil
}

// AwaitPackets sends probes until one comes back: the guest forwards.
func (s *Scene) AwaitPackets(ctx context.Context) error {
	r := traffic.NewRecorder(1 << 16)
	server, err := traffic.StartUDPServer(s.Server.Name, s.address(lab.ServerAddress, bootPort), r)
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := traffic.StartUDPClient(s.Client.Name, traffic.UDPClientOptions{
		Server: server.Addr(), Rate: 20, Linger: time.Millisecond}, r)
	if err != nil {
		return err
	}
	defer client.Stop()
	return Until(ctx, func() bool { return client.Replied() > 0 })
}

// Until waits for a condition.
func Until(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Protect protects the machine that runs on one host by another.
func (s *Scene) Protect(ctx context.Context, from, to *lab.Host) error {
	_, err := from.Protect(ctx, Machine, to.Name)
	return err
}

// Console of the machine on a host.
func (s *Scene) Console(h *lab.Host) string {
	b, err := os.ReadFile(h.ConsoleFile(Machine))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Scene) address(ip string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port)
}
