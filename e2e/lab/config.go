package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"go.yaml.in/yaml/v4"
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
	TLS           *TLSConfig    `yaml:"tls,omitempty"`
	Arbiter       ArbiterConfig `yaml:"arbiter"`
	Detection     Detection     `yaml:"detection"`
	QEMU          QEMUConfig    `yaml:"qemu"`
	Limits        Limits        `yaml:"limits,omitempty"`
	Link          LinkConfig    `yaml:"link,omitempty"`
	Log           LogConfig     `yaml:"log"`
}

// Peer is another host. A spare becomes the standby of a machine whose own
// standby does not come back.
type Peer struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
	Spare   bool   `yaml:"spare,omitempty"`
}

// WitnessConfig is the witness's configuration file, field by field.
type WitnessConfig struct {
	Host     string        `yaml:"host"`
	StateDir string        `yaml:"state-dir"`
	RunDir   string        `yaml:"run-dir,omitempty"`
	TLS      *TLSConfig    `yaml:"tls,omitempty"`
	Arbiter  ArbiterConfig `yaml:"arbiter"`
	Log      LogConfig     `yaml:"log"`
}

// TLSConfig names files: the authority's certificate, and a node's own
// certificate and key.
type TLSConfig struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// ArbiterConfig is one of two: a shared directory, or etcd inside the daemons.
type ArbiterConfig struct {
	Directory string    `yaml:"directory,omitempty"`
	Embedded  *Embedded `yaml:"embedded,omitempty"`
}

// Embedded etcd: where this node listens, which is nowhere if it is no member,
// and the members.
type Embedded struct {
	Peer    string   `yaml:"peer,omitempty"`
	Client  string   `yaml:"client,omitempty"`
	Cluster []Member `yaml:"cluster"`
	Join    bool     `yaml:"join,omitempty"`
}

// Member of the arbiter's cluster.
type Member struct {
	Name   string `yaml:"name"`
	Peer   string `yaml:"peer"`
	Client string `yaml:"client"`
}

// Detection of a dead peer, and of a QEMU that does not answer, as durations
// ("50ms"); empty is the daemon's default.
type Detection struct {
	Heartbeat string `yaml:"heartbeat"`
	Limit     string `yaml:"limit"`
	QEMU      string `yaml:"qemu,omitempty"`
}

// QEMUConfig says how machines are run.
type QEMUConfig struct {
	Binary    string   `yaml:"binary,omitempty"`
	Accel     string   `yaml:"accel"`
	Sandbox   string   `yaml:"sandbox,omitempty"`
	User      string   `yaml:"user,omitempty"`
	ExtraArgs []string `yaml:"extra-args,omitempty"`
}

// Limits of the daemon's buffers, as sizes ("64MiB"); empty is the daemon's
// default.
type Limits struct {
	HeldOutput  string `yaml:"held-output,omitempty"`
	HeldInput   string `yaml:"held-input,omitempty"`
	InputDelay  string `yaml:"input-delay,omitempty"`
	DeviceState string `yaml:"device-state,omitempty"`
	InputLog    string `yaml:"input-log,omitempty"`
	DeltaCache  string `yaml:"delta-cache,omitempty"`
	Console     string `yaml:"console,omitempty"`
}

// LinkConfig is the field link.
type LinkConfig struct {
	Compress string `yaml:"compress,omitempty"`
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
		Listen:        endpoint(h.Address, ReplicaPort),
		TLS:           l.tlsOf(h.Name),
		Arbiter:       l.arbiterOf(h.Name),
		Detection:     Detection{Heartbeat: "50ms", Limit: "500ms"},
		QEMU:          QEMUConfig{Binary: l.options.QEMU, Accel: l.options.Accel},
		Log:           LogConfig{Level: "debug", Format: "text"},
	}
	for number := 1; number <= l.options.Hosts; number++ {
		if name := hostName(number); name != h.Name {
			c.Peers = append(c.Peers, Peer{Name: name, Address: endpoint(linkAddress(number), ReplicaPort)})
		}
	}
	return c
}

func defaultWitnessConfig(l *Lab, w *Witness) WitnessConfig {
	return WitnessConfig{
		Host:     w.Name,
		StateDir: w.StateDir,
		RunDir:   w.RunDir,
		TLS:      l.tlsOf(w.Name),
		Arbiter:  l.arbiterOf(w.Name),
		Log:      LogConfig{Level: "debug", Format: "text"},
	}
}

// arbiterOf is the arbiter as one node sees it.
func (l *Lab) arbiterOf(node string) ArbiterConfig {
	if !l.options.etcd() {
		return ArbiterConfig{Directory: l.ArbiterDir}
	}
	e := &Embedded{Cluster: l.members()}
	for _, m := range e.Cluster {
		if m.Name == node {
			e.Peer, e.Client = m.Peer, m.Client
		}
	}
	return ArbiterConfig{Embedded: e}
}

// members of the arbiter's cluster, the witness last. Their number is odd: of
// an odd number of hosts the last one only asks the others.
func (l *Lab) members() (members []Member) {
	if l.options.ArbiterMembers == MembersAll {
		even := l.options.Hosts &^ 1
		for number := 1; number <= even; number++ {
			members = append(members, member(hostName(number), number))
		}
	}
	return append(members, member(witnessName, witnessNumber))
}

func member(name string, number int) Member {
	address := arbiterAddress(number)
	return Member{name, endpoint(address, ArbiterPeerPort), endpoint(address, ArbiterClientPort)}
}

func endpoint(address string, port int) string { return address + ":" + strconv.Itoa(port) }

// writeConfig replaces the file at once: a daemon's children may read it at any time.
func writeConfig(path, host string, config any) error {
	b, err := yaml.Marshal(config)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write the configuration of host %s: %w", host, err)
	}
	return nil
}
