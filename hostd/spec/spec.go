// Package spec reads the specification of a machine. docs/machine.md describes
// every field.
package spec

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// Machine is a specification. A primary and its standby use the same one.
type Machine struct {
	Name       string        `yaml:"name"`
	Memory     yamlfile.Size `yaml:"memory"`
	CPUs       int           `yaml:"cpus"`
	Machine    string        `yaml:"machine"`
	CPU        string        `yaml:"cpu,omitempty"`
	Kernel     string        `yaml:"kernel,omitempty"`
	Initrd     string        `yaml:"initrd,omitempty"`
	Append     string        `yaml:"append,omitempty"`
	Disk       *Disk         `yaml:"disk,omitempty"`
	Console    string        `yaml:"console,omitempty"`
	Ports      []Port        `yaml:"ports,omitempty"`
	Agent      Agent         `yaml:"agent"`
	ExtraArgs  []string      `yaml:"extra-args,omitempty"`
	Protection Protection    `yaml:"protection"`
}

// Disk image of a machine.
type Disk struct {
	Image    string `yaml:"image"`
	Format   string `yaml:"format"`
	ReadOnly bool   `yaml:"read-only"`
}

// Port is one network card.
type Port struct {
	Name      string       `yaml:"name"`
	Tap       string       `yaml:"tap"`
	Uplink    string       `yaml:"uplink"`
	MAC       MAC          `yaml:"mac"`
	Addresses []netip.Addr `yaml:"addresses,omitempty"`
	Offloads  *bool        `yaml:"offloads,omitempty"`
}

// MAC is an Ethernet address.
type MAC [6]byte

// UnmarshalText reads the usual colon form.
func (m *MAC) UnmarshalText(b []byte) error {
	a, err := net.ParseMAC(string(b))
	if err != nil || len(a) != len(m) {
		return fmt.Errorf("%q is not a MAC address; write it as 52:54:00:00:00:01", b)
	}
	copy(m[:], a)
	return nil
}

// MarshalText writes the colon form.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Agent channel of a machine.
type Agent struct {
	Enabled bool   `yaml:"enabled"`
	Channel string `yaml:"channel"`
}

// Protection is the policy of a machine's checkpoints.
type Protection struct {
	Checkpoint       string            `yaml:"checkpoint"`
	Interval         yamlfile.Duration `yaml:"interval"`
	MinEpoch         yamlfile.Duration `yaml:"min-epoch"`
	MaxEpoch         yamlfile.Duration `yaml:"max-epoch"`
	Overhead         yamlfile.Percent  `yaml:"overhead"`
	Output           string            `yaml:"output"`
	InputLog         string            `yaml:"input-log"`
	QuiesceDeadline  yamlfile.Duration `yaml:"quiesce-deadline"`
	OnQuiesceFailure string            `yaml:"on-quiesce-failure"`
}

// Values of the policy's fields.
const (
	Demand, Periodic = "demand", "periodic"
	Hold, Pass       = "hold", "pass"
	Force, Skip      = "force", "skip"

	InputSync, InputAsync, InputOff = "sync", "async", "off"
)

// Default specification; name, memory and what to boot have none.
func Default() Machine {
	ms := func(n int) yamlfile.Duration { return yamlfile.Duration(time.Duration(n) * time.Millisecond) }
	return Machine{
		CPUs: 1, Machine: "pc", Agent: Agent{Enabled: true, Channel: "org.stillpoint.agent.0"},
		Protection: Protection{Checkpoint: Demand, Interval: ms(50), MinEpoch: ms(2), MaxEpoch: ms(500), Overhead: 0.10,
			Output: Hold, InputLog: InputSync, QuiesceDeadline: ms(20), OnQuiesceFailure: Force},
	}
}

// Load reads a specification file.
func Load(path string) (Machine, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Machine{}, fmt.Errorf("read the machine's specification: %w", err)
	}
	return Parse(path, b)
}

// Parse reads and checks a specification. Errors name file, line and field.
func Parse(file string, data []byte) (Machine, error) {
	m := Default()
	f, err := yamlfile.Decode(file, data, &m)
	if err != nil {
		return Machine{}, err
	}
	if m.Disk != nil && m.Disk.Format == "" {
		m.Disk.Format = "raw"
	}
	m.check(f)
	return m, f.Err()
}

// Marshal writes the specification so that Parse reads it back the same. Letters beyond
// ASCII are escaped: some end a line to one parser and not to another.
func (m Machine) Marshal() ([]byte, error) {
	return yaml.Dump(m, yaml.WithLineWidth(-1), yaml.WithUnicode(false))
}

// OffloadsOn reports whether the guest is offered checksum and segmentation
// offloads on the port.
func (p Port) OffloadsOn() bool { return p.Offloads == nil || *p.Offloads }
