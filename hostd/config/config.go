// Package config reads the daemon's configuration. docs/config.md describes
// every field.
package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// Config of a daemon.
type Config struct {
	Host          string    `yaml:"host"`
	StateDir      string    `yaml:"state-dir"`
	RunDir        string    `yaml:"run-dir"`
	RAMDir        string    `yaml:"ram-dir"`
	ControlSocket string    `yaml:"control-socket"`
	Listen        string    `yaml:"listen"`
	Peers         []Peer    `yaml:"peers"`
	Arbiter       Arbiter   `yaml:"arbiter"`
	Detection     Detection `yaml:"detection"`
	QEMU          QEMU      `yaml:"qemu"`
	Limits        Limits    `yaml:"limits"`
	Log           Log       `yaml:"log"`
}

// Peer is another host that can be a standby.
type Peer struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
}

// Arbiter decides which host speaks for a machine.
type Arbiter struct {
	Directory string `yaml:"directory"`
}

// Detection of a dead peer.
type Detection struct {
	Heartbeat yamlfile.Duration `yaml:"heartbeat"`
	Limit     yamlfile.Duration `yaml:"limit"`
}

// QEMU says how machines are run.
type QEMU struct {
	Binary    string   `yaml:"binary"`
	Accel     string   `yaml:"accel"`
	ExtraArgs []string `yaml:"extra-args"`
}

// Limits bound the daemon's memory for each machine.
type Limits struct {
	HeldOutput  yamlfile.Size `yaml:"held-output"`
	HeldInput   yamlfile.Size `yaml:"held-input"`
	DeviceState yamlfile.Size `yaml:"device-state"`
}

// Log of the daemon.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Default configuration; host, listen and arbiter have none.
func Default() Config {
	return Config{
		StateDir: "/var/lib/stillpoint", RunDir: "/run/stillpoint", RAMDir: "/dev/shm/stillpoint",
		Detection: Detection{Heartbeat: yamlfile.Duration(50 * time.Millisecond), Limit: yamlfile.Duration(500 * time.Millisecond)},
		QEMU:      QEMU{Binary: "qemu-system-x86_64", Accel: "auto"},
		Limits:    Limits{HeldOutput: 64 << 20, HeldInput: 16 << 20, DeviceState: 16 << 20},
		Log:       Log{Level: "warn", Format: "text"},
	}
}

// Load reads a configuration file.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, b)
}

// Parse reads and checks a configuration. Errors name file, line and field.
func Parse(file string, data []byte) (Config, error) {
	c := Default()
	f, err := yamlfile.Decode(file, data, &c)
	if err != nil {
		return Config{}, err
	}
	if c.ControlSocket == "" {
		c.ControlSocket = filepath.Join(c.RunDir, "hostd.sock")
	}
	c.check(f)
	return c, f.Err()
}

var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62})$`)

const unixPathMax = 107

func (c Config) check(f *yamlfile.File) {
	if !hostName.MatchString(c.Host) {
		f.Problem("host", "%q is no host name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit", c.Host)
	}
	for _, d := range [][2]string{{"state-dir", c.StateDir}, {"run-dir", c.RunDir}, {"ram-dir", c.RAMDir}, {"arbiter.directory", c.Arbiter.Directory}} {
		if !filepath.IsAbs(d[1]) {
			f.Problem(d[0], "%q is no absolute path", d[1])
		}
	}
	if len(c.ControlSocket) > unixPathMax {
		f.Problem("control-socket", "the path has %d bytes; a unix socket's at most %d", len(c.ControlSocket), unixPathMax)
	}
	checkAddress(f, "listen", c.Listen)
	c.checkPeers(f)
	c.checkDetection(f)
	oneOf(f, "qemu.accel", c.QEMU.Accel, "auto", "kvm", "tcg")
	oneOf(f, "log.level", c.Log.Level, "trace", "debug", "info", "warn", "error")
	oneOf(f, "log.format", c.Log.Format, "text", "json")
	atLeast(f, "limits.held-output", c.Limits.HeldOutput, 1<<20)
	atLeast(f, "limits.held-input", c.Limits.HeldInput, 1<<20)
	atLeast(f, "limits.device-state", c.Limits.DeviceState, 1<<20)
}

func (c Config) checkPeers(f *yamlfile.File) {
	seen := map[string]bool{c.Host: true}
	for i, p := range c.Peers {
		field := fmt.Sprintf("peers[%d]", i)
		if !hostName.MatchString(p.Name) {
			f.Problem(field+".name", "%q is no host name", p.Name)
		} else if seen[p.Name] {
			f.Problem(field+".name", "%q is this host itself or a peer named before", p.Name)
		}
		seen[p.Name] = true
		checkAddress(f, field+".address", p.Address)
	}
}

func (c Config) checkDetection(f *yamlfile.File) {
	d := c.Detection
	if d.Heartbeat < yamlfile.Duration(time.Millisecond) {
		f.Problem("detection.heartbeat", "%v is less than 1ms", time.Duration(d.Heartbeat))
	}
	if d.Limit < 3*d.Heartbeat {
		f.Problem("detection.limit", "%v is less than three heartbeats (%v)", time.Duration(d.Limit), time.Duration(3*d.Heartbeat))
	}
}

func checkAddress(f *yamlfile.File, field, address string) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		f.Problem(field, "%q is no address; write it as 192.0.2.1:7600", address)
	}
}

func atLeast(f *yamlfile.File, field string, v, least yamlfile.Size) {
	if v < least {
		f.Problem(field, "%d bytes are less than %d", v, least)
	}
}

func oneOf(f *yamlfile.File, field, v string, allowed ...string) {
	for _, a := range allowed {
		if v == a {
			return
		}
	}
	f.Problem(field, "%q is not one of %v", v, allowed)
}
