package lab

import (
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// AgentChannel is the name of the virtio-serial port between host and agent.
const AgentChannel = "org.stillpoint.agent.0"

// Images are the paths of what guests boot from.
type Images struct{ Kernel, NAT, Plain string }

// ImagesIn names the images of a build directory.
func ImagesIn(dir string) Images {
	if abs, err := filepath.Abs(dir); err == nil { // the daemon wants absolute paths
		dir = abs
	}
	return Images{
		Kernel: filepath.Join(dir, "vmlinuz"),
		NAT:    filepath.Join(dir, "nat.cpio.gz"),
		Plain:  filepath.Join(dir, "plain.cpio.gz"),
	}
}

// Machine is a machine's specification, field by field, as the daemon reads
// it. Empty fields are the daemon's defaults.
type Machine struct {
	Name       string     `yaml:"name"`
	Memory     string     `yaml:"memory"`
	CPUs       int        `yaml:"cpus"`
	Machine    string     `yaml:"machine,omitempty"`
	CPU        string     `yaml:"cpu,omitempty"`
	Kernel     string     `yaml:"kernel,omitempty"`
	Initrd     string     `yaml:"initrd,omitempty"`
	Append     string     `yaml:"append,omitempty"`
	Disk       *Disk      `yaml:"disk,omitempty"`
	Console    string     `yaml:"console,omitempty"`
	Ports      []Port     `yaml:"ports,omitempty"`
	Agent      Agent      `yaml:"agent"`
	ExtraArgs  []string   `yaml:"extra-args,omitempty"`
	Protection Protection `yaml:"protection"`
}

// Disk of a machine.
type Disk struct {
	Image    string `yaml:"image"`
	Format   string `yaml:"format"`
	ReadOnly bool   `yaml:"read-only,omitempty"`
}

// Port is a network port of a machine.
type Port struct {
	Name      string   `yaml:"name"`
	Tap       string   `yaml:"tap"`
	Uplink    string   `yaml:"uplink"`
	MAC       string   `yaml:"mac"`
	Addresses []string `yaml:"addresses,omitempty"`
	Offloads  *bool    `yaml:"offloads,omitempty"`
}

// Agent says whether the guest has one.
type Agent struct {
	Enabled bool   `yaml:"enabled"`
	Channel string `yaml:"channel,omitempty"`
}

// Protection is the policy of a machine's checkpoints; empty fields are the
// daemon's defaults. Durations as "50ms", the overhead as "10%".
type Protection struct {
	Checkpoint       string `yaml:"checkpoint,omitempty"`
	Interval         string `yaml:"interval,omitempty"`
	MinEpoch         string `yaml:"min-epoch,omitempty"`
	MaxEpoch         string `yaml:"max-epoch,omitempty"`
	Overhead         string `yaml:"overhead,omitempty"`
	Output           string `yaml:"output,omitempty"`
	QuiesceDeadline  string `yaml:"quiesce-deadline,omitempty"`
	OnQuiesceFailure string `yaml:"on-quiesce-failure,omitempty"`
}

// NATMachine is the guest that translates between the client's network and
// the server's. The flags go to its application on the kernel's command line.
func NATMachine(images Images, flags ...string) Machine {
	m := plainMachine(images, "nat")
	m.Initrd = images.NAT
	m.Agent = Agent{Enabled: true, Channel: AgentChannel}
	if len(flags) > 0 {
		m.Append += " " + natParameter + "=" + strings.Join(flags, ",")
	}
	m.Ports = []Port{
		{Name: "in", Tap: "sp-nat-in", Uplink: UplinkIn, MAC: NATInsideMAC, Addresses: []string{NATInside}},
		{Name: "out", Tap: "sp-nat-out", Uplink: UplinkOut, MAC: NATOutsideMAC, Addresses: []string{NATOutside}},
	}
	return m
}

// natParameter is read by the guest's init.
const natParameter = "stillpoint.nat"

// PlainMachine is a guest without agent and without ports.
func PlainMachine(images Images, name string) Machine {
	m := plainMachine(images, name)
	m.Initrd = images.Plain
	return m
}

func plainMachine(images Images, name string) Machine {
	return Machine{
		Name:    name,
		Memory:  "256MiB",
		CPUs:    1,
		Kernel:  images.Kernel,
		Append:  "console=ttyS0 quiet panic=-1",
		Console: ownConsole(name),
	}
}

// ownConsole is one path for all hosts that leads each QEMU to a file of its
// own host, see Host.ConsoleFile: both hosts of a pair get the same
// specification, and in a lab they share a file system. A daemon's working
// directory is its state directory, and QEMU has it from the daemon.
func ownConsole(machine string) string { return "/proc/self/cwd/" + machine + ".console" }

// YAML of the specification.
func (m Machine) YAML() ([]byte, error) {
	b, err := yaml.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the specification of machine %s: %w", m.Name, err)
	}
	return b, nil
}
