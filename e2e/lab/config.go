package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/goccy/go-yaml"
)

// Config is the daemon's configuration file, field by field.
type Config struct {
	Host          string        `yaml:"host"`
	StateDir      string        `yaml:"state-dir"`
	RunDir        string        `yaml:"run-dir"`
	RAMDir        string        `yaml:"ram-dir"`
	ControlSocket string        `yaml:"control-socket"`
	Listen        string        `yaml:"listen"`
	Peers         []Peer        `yaml:"peers"`
	Arbiter       ArbiterConfig `yaml:"arbiter"`
	Detection     Detection     `yaml:"detection"`
	QEMU          QEMUConfig    `yaml:"qemu"`
	Limits        Limits        `yaml:"limits,omitempty"`
	Log           LogConfig     `yaml:"log"`
}

// Peer is another host.
type Peer struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
}

// ArbiterConfig names the shared directory of the arbiter.
type ArbiterConfig struct {
	Directory string `yaml:"directory"`
}

// Detection of a dead peer, as durations ("50ms").
type Detection struct {
	Heartbeat string `yaml:"heartbeat"`
	Limit     string `yaml:"limit"`
}

// QEMUConfig says how machines are run.
type QEMUConfig struct {
	Binary    string   `yaml:"binary,omitempty"`
	Accel     string   `yaml:"accel"`
	ExtraArgs []string `yaml:"extra-args,omitempty"`
}

// Limits of the daemon's buffers, as sizes ("64MiB"); empty is the daemon's
// default.
type Limits struct {
	HeldOutput  string `yaml:"held-output,omitempty"`
	HeldInput   string `yaml:"held-input,omitempty"`
	DeviceState string `yaml:"device-state,omitempty"`
}

// LogConfig of the daemon.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

func defaultConfig(l *Lab, h *Host) Config {
	c := Config{
		Host:          h.Name,
		StateDir:      h.StateDir,
		RunDir:        h.RunDir,
		RAMDir:        h.RAMDir,
		ControlSocket: filepath.Join(h.RunDir, "hostd.sock"),
		Listen:        endpoint(h.Address),
		Arbiter:       ArbiterConfig{Directory: l.ArbiterDir},
		Detection:     Detection{Heartbeat: "50ms", Limit: "500ms"},
		QEMU:          QEMUConfig{Binary: l.options.QEMU, Accel: l.options.Accel},
		Log:           LogConfig{Level: "debug", Format: "text"},
	}
	for i := range l.options.Hosts {
		if name := string(rune('a' + i)); name != h.Name {
			c.Peers = append(c.Peers, Peer{name, endpoint(linkAddress(i + 1))})
		}
	}
	return c
}

func endpoint(address string) string { return address + ":" + strconv.Itoa(ReplicaPort) }

func (c Config) write(path string) error {
	b, err := yaml.Marshal(c)
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the configuration of host %s: %w", c.Host, err)
	}
	return nil
}
