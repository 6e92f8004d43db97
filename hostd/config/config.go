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
	// File is where the configuration was read.
	File string `yaml:"-"`

	Host          string    `yaml:"host"`
	StateDir      string    `yaml:"state-dir"`
	RunDir        string    `yaml:"run-dir"`
	RAMDir        string    `yaml:"ram-dir"`
	ControlSocket string    `yaml:"control-socket"`
	Listen        string    `yaml:"listen"`
	Peers         []Peer    `yaml:"peers"`
	TLS           TLS       `yaml:"tls"`
	Arbiter       Arbiter   `yaml:"arbiter"`
	Detection     Detection `yaml:"detection"`
	QEMU          QEMU      `yaml:"qemu"`
	Limits        Limits    `yaml:"limits"`
	Link          Link      `yaml:"link"`
	Log           Log       `yaml:"log"`
}

// Peer is another host that can be a standby. A spare becomes the standby of a
// machine whose own standby does not come back.
type Peer struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
	Spare   bool   `yaml:"spare"`
}

// TLS names the files by which this host proves who it is, and knows others.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Arbiter decides which host speaks for a machine. Exactly one of Embedded,
// Endpoints and Directory is given.
type Arbiter struct {
	Embedded *Embedded `yaml:"embedded"`
	// Endpoints of an etcd cluster that the site runs, with its own TLS files
	// where they differ from the host's.
	Endpoints    []string `yaml:"endpoints"`
	TLS          TLS      `yaml:"tls"`
	Username     string   `yaml:"username"`
	PasswordFile string   `yaml:"password-file"`
	Directory    string   `yaml:"directory"`
}

// Embedded is an etcd member inside the daemon.
type Embedded struct {
	Peer    string            `yaml:"peer"`
	Client  string            `yaml:"client"`
	Cluster []EmbeddedArbiter `yaml:"cluster"`
	// Join makes a member without data join a cluster that runs, instead of
	// beginning one: set it to replace a member, and remove it after.
	Join bool `yaml:"join"`
}

// EmbeddedArbiter is one member of the embedded cluster.
type EmbeddedArbiter struct {
	Name   string `yaml:"name"`
	Peer   string `yaml:"peer"`
	Client string `yaml:"client"`
}

// Detection of a dead peer, and of a QEMU that hangs.
type Detection struct {
	Heartbeat yamlfile.Duration `yaml:"heartbeat"`
	Limit     yamlfile.Duration `yaml:"limit"`
	QEMU      yamlfile.Duration `yaml:"qemu"`
}

// QEMU says how machines are run.
type QEMU struct {
	Binary    string   `yaml:"binary"`
	Accel     string   `yaml:"accel"`
	Sandbox   string   `yaml:"sandbox"`
	User      string   `yaml:"user"`
	ExtraArgs []string `yaml:"extra-args"`
}

// Limits bound the daemon's memory for each machine.
type Limits struct {
	HeldOutput yamlfile.Size `yaml:"held-output"`
	HeldInput  yamlfile.Size `yaml:"held-input"`
	// InputDelay is no memory: how long what arrives waits for a guest that is slow.
	InputDelay  yamlfile.Duration `yaml:"input-delay"`
	DeviceState yamlfile.Size     `yaml:"device-state"`
	InputLog    yamlfile.Size     `yaml:"input-log"`
	DeltaCache  yamlfile.Size     `yaml:"delta-cache"`
	// Console bounds two files on disk, not memory.
	Console yamlfile.Size `yaml:"console"`
	// Epoch is 0 for the guest's memory and an eighth.
	Epoch yamlfile.Size `yaml:"epoch"`
}

// Link to the other host of a pair.
type Link struct {
	Compress string `yaml:"compress"`
}

// Values of Link.Compress.
const (
	CompressAuto, CompressOn, CompressOff = "auto", "on", "off"
)

// Log of the daemon.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Default configuration; host, listen and arbiter have none.
func Default() Config {
	return Config{
		StateDir: "/var/lib/stillpoint", RunDir: "/run/stillpoint", RAMDir: "/dev/shm/stillpoint",
		TLS:       TLS{CA: "/etc/stillpoint/pki/ca.crt", Cert: "/etc/stillpoint/pki/host.crt", Key: "/etc/stillpoint/pki/host.key"},
		Detection: Detection{Heartbeat: yamlfile.Duration(50 * time.Millisecond), Limit: yamlfile.Duration(500 * time.Millisecond), QEMU: yamlfile.Duration(5 * time.Second)},
		QEMU:      QEMU{Binary: "qemu-system-x86_64", Accel: "auto", Sandbox: "auto"},
		Limits:    Limits{HeldOutput: 64 << 20, HeldInput: 16 << 20, InputDelay: yamlfile.Duration(time.Second), DeviceState: 16 << 20, InputLog: 64 << 20, DeltaCache: 64 << 20, Console: 16 << 20},
		Link:      Link{Compress: CompressAuto},
		Log:       Log{Level: "info", Format: "text"},
	}
}

// Load reads a configuration file.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return located(path)(Parse(path, b))
}

// located notes where a configuration was read.
func located(path string) func(Config, error) (Config, error) {
	return func(c Config, err error) (Config, error) {
		if absolute, failed := filepath.Abs(path); failed == nil {
			path = absolute
		}
		c.File = path
		return c, err
	}
}

// Parse reads and checks a configuration. Errors name file, line and field.
func Parse(file string, data []byte) (Config, error) {
	return parse(file, data, Config.check)
}

// LoadWitness reads the configuration file of a witness: a host that takes
// part in the arbiter and runs no machines.
func LoadWitness(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return located(path)(ParseWitness(path, b))
}

// ParseWitness is Parse for a witness.
func ParseWitness(file string, data []byte) (Config, error) {
	return parse(file, data, func(c Config, f *yamlfile.File) {
		c.checkHost(f)
		if !c.Member() {
			f.Problem("arbiter.embedded.cluster", "host %q is not listed: a witness must be a member of the embedded arbiter", c.Host)
		}
	})
}

func parse(file string, data []byte, check func(Config, *yamlfile.File)) (Config, error) {
	c := Default()
	f, err := yamlfile.Decode(file, data, &c)
	if err != nil {
		return Config{}, err
	}
	if c.ControlSocket == "" {
		c.ControlSocket = filepath.Join(c.RunDir, "hostd.sock")
	}
	check(c, f)
	return c, f.Err()
}

var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62})$`)

// userName is of those that Linux knows how to make, or uid:gid.
var userName = regexp.MustCompile(`^([a-z_][a-zA-Z0-9_.-]{0,31}|[0-9]{1,10}(:[0-9]{1,10})?)$`)

const unixPathMax = 107

func (c Config) check(f *yamlfile.File) {
	c.checkHost(f)
	checkAddress(f, "listen", c.Listen)
	c.checkPeers(f)
	c.checkDetection(f)
	oneOf(f, "qemu.sandbox", c.QEMU.Sandbox, "auto", "on", "off")
	if u := c.QEMU.User; u != "" && !userName.MatchString(u) {
		f.Problem("qemu.user", "%q is not a valid user: give a name, a uid, or uid:gid", u)
	}
	oneOf(f, "qemu.accel", c.QEMU.Accel, "auto", "kvm", "tcg")
	atLeast(f, "limits.held-output", c.Limits.HeldOutput, 1<<20)
	atLeast(f, "limits.held-input", c.Limits.HeldInput, 1<<20)
	if d := c.Limits.InputDelay; d < yamlfile.Duration(10*time.Millisecond) || d > yamlfile.Duration(time.Minute) {
		f.Problem("limits.input-delay", "%v is not between 10ms and 1m", time.Duration(d))
	}
	atLeast(f, "limits.device-state", c.Limits.DeviceState, 1<<20)
	atLeast(f, "limits.input-log", c.Limits.InputLog, 1<<20)
	atLeast(f, "limits.console", c.Limits.Console, 64<<10)
	if c.Limits.DeltaCache != 0 {
		atLeast(f, "limits.delta-cache", c.Limits.DeltaCache, 1<<20)
	}
	if c.Limits.Epoch != 0 {
		atLeast(f, "limits.epoch", c.Limits.Epoch, 16<<20)
	}
	oneOf(f, "link.compress", c.Link.Compress, CompressAuto, CompressOn, CompressOff)
}

// checkHost checks what a daemon and a witness have in common.
func (c Config) checkHost(f *yamlfile.File) {
	if !hostName.MatchString(c.Host) {
		f.Problem("host", "%q is not a valid host name: 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit", c.Host)
	}
	paths := [][2]string{{"state-dir", c.StateDir}, {"run-dir", c.RunDir}, {"ram-dir", c.RAMDir}, {"tls.ca", c.TLS.CA}, {"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key}}
	for _, d := range paths {
		if !filepath.IsAbs(d[1]) {
			f.Problem(d[0], "%q is not an absolute path", d[1])
		}
	}
	if len(c.ControlSocket) > unixPathMax {
		f.Problem("control-socket", "the path is %d bytes long; a Unix socket path may have %d at most", len(c.ControlSocket), unixPathMax)
	}
	c.checkArbiter(f)
	oneOf(f, "log.level", c.Log.Level, "trace", "debug", "info", "warn", "error")
	oneOf(f, "log.format", c.Log.Format, "text", "json")
}

func (c Config) checkPeers(f *yamlfile.File) {
	seen := map[string]bool{c.Host: true}
	for i, p := range c.Peers {
		field := fmt.Sprintf("peers[%d]", i)
		if !hostName.MatchString(p.Name) {
			f.Problem(field+".name", "%q is not a valid host name", p.Name)
		} else if seen[p.Name] {
			f.Problem(field+".name", "%q is this host itself, or is listed twice", p.Name)
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
	if d.QEMU < yamlfile.Duration(100*time.Millisecond) {
		f.Problem("detection.qemu", "%v is less than 100ms", time.Duration(d.QEMU))
	}
	if d.Limit < 3*d.Heartbeat {
		f.Problem("detection.limit", "%v is less than three heartbeats (%v)", time.Duration(d.Limit), time.Duration(3*d.Heartbeat))
	}
}

func (c Config) checkArbiter(f *yamlfile.File) {
	a, kinds := c.Arbiter, 0
	if a.Embedded != nil {
		kinds++
		a.Embedded.check(f, c.Host)
	}
	if len(a.Endpoints) > 0 {
		kinds++
	}
	if a.Directory != "" {
		kinds++
		if !filepath.IsAbs(a.Directory) {
			f.Problem("arbiter.directory", "%q is not an absolute path", a.Directory)
		}
	}
	if kinds != 1 {
		f.Problem("arbiter", "give exactly one of embedded, endpoints and directory; docs/arbiter.md says when to use which")
	}
	for _, p := range [][2]string{{"arbiter.tls.ca", a.TLS.CA}, {"arbiter.tls.cert", a.TLS.Cert}, {"arbiter.tls.key", a.TLS.Key}, {"arbiter.password-file", a.PasswordFile}} {
		if p[1] != "" && !filepath.IsAbs(p[1]) {
			f.Problem(p[0], "%q is not an absolute path", p[1])
		}
	}
}

// check the member. A host that is not in the cluster has no member of its own
// and only asks the others.
func (e Embedded) check(f *yamlfile.File, host string) {
	member := false
	seen := map[string]bool{}
	for i, m := range e.Cluster {
		field := fmt.Sprintf("arbiter.embedded.cluster[%d]", i)
		if !hostName.MatchString(m.Name) || seen[m.Name] {
			f.Problem(field+".name", "%q is not a valid host name, or is listed twice", m.Name)
		}
		seen[m.Name] = true
		member = member || m.Name == host
		checkAddress(f, field+".peer", m.Peer)
		checkAddress(f, field+".client", m.Client)
	}
	if len(e.Cluster)%2 == 0 {
		f.Problem("arbiter.embedded.cluster", "%d members; make it an odd number: three, with a witness, survive the loss of one", len(e.Cluster))
	}
	if member {
		checkAddress(f, "arbiter.embedded.peer", e.Peer)
		checkAddress(f, "arbiter.embedded.client", e.Client)
	}
}

// SupervisorSocket is where the daemon finds its supervisor.
func (c Config) SupervisorSocket() string { return filepath.Join(c.RunDir, "supervisor.sock") }

// Member tells whether the host is a member of the embedded cluster.
func (c Config) Member() bool {
	if c.Arbiter.Embedded == nil {
		return false
	}
	for _, m := range c.Arbiter.Embedded.Cluster {
		if m.Name == c.Host {
			return true
		}
	}
	return false
}

func checkAddress(f *yamlfile.File, field, address string) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		f.Problem(field, "%q is not HOST:PORT; write it as 192.0.2.1:7600", address)
	}
}

// largest keeps sums and multiples of limits within what their counters hold.
const largest yamlfile.Size = 1 << 40

func atLeast(f *yamlfile.File, field string, v, least yamlfile.Size) {
	if v < least {
		f.Problem(field, "%d bytes are less than %d", v, least)
	}
	if v > largest {
		f.Problem(field, "%d bytes are more than 1TiB", v)
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
