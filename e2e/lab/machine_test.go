package lab

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

func TestNATMachine(t *testing.T) {
	m := NATMachine(ImagesIn("/images"), "oracle", "verbose")
	m.Protection = Protection{Checkpoint: "periodic", Interval: "50ms"}
	b, err := m.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"name: nat\n", "initrd: /images/nat.cpio.gz\n", "kernel: /images/vmlinuz\n",
		"stillpoint.nat=oracle,verbose\n", NATInsideMAC, "uplink: up-out\n", "interval: 50ms\n",
		"channel: org.stillpoint.agent.0\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	if strings.Contains(string(b), "disk") || strings.Contains(string(b), "overhead") {
		t.Errorf("empty fields in\n%s", b)
	}
	parsed, err := spec.Parse("nat.yaml", b)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Ports[1].MAC.String() != NATOutsideMAC || parsed.Protection.Checkpoint != spec.Periodic {
		t.Errorf("the daemon reads %+v", parsed)
	}
}

func TestPlainMachine(t *testing.T) {
	m := PlainMachine(ImagesIn("/images"), "plain")
	if m.Agent.Enabled || len(m.Ports) > 0 || m.Initrd != "/images/plain.cpio.gz" || m.Console != "/proc/self/cwd/plain.console" {
		t.Errorf("got %+v", m)
	}
	b, err := m.YAML()
	if err == nil {
		_, err = spec.Parse("plain.yaml", b)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestConfigIsTheDaemons(t *testing.T) {
	for _, o := range []Options{
		{},
		{Arbiter: ArbiterEtcd, Hosts: 1},
		{Arbiter: ArbiterEtcd},
		{Arbiter: ArbiterEtcd, Hosts: 3},
		{Arbiter: ArbiterEtcd, ArbiterMembers: MembersWitness},
	} {
		l := newLab(t, o)
		for _, h := range l.Hosts {
			c := loaded(t, &h.Node, h.Config, config.Load)
			if c.Host != h.Name || c.ControlSocket != h.Socket() || len(c.Peers) != len(l.Hosts)-1 || c.Limits != config.Default().Limits {
				t.Errorf("the daemon reads %+v", c)
			}
		}
		if w := l.Witness; w != nil {
			c := loaded(t, &w.Node, w.Config, config.LoadWitness)
			if c.Host != w.Name || c.RunDir != w.RunDir || !c.Member() {
				t.Errorf("the witness reads %+v", c)
			}
		}
	}
}

// loaded is a configuration as the daemon reads it.
func loaded(t *testing.T, n *Node, written any, load func(string) (config.Config, error)) config.Config {
	t.Helper()
	path := filepath.Join(n.Dir, "hostd.yaml")
	if err := writeConfig(path, n.Name, written); err != nil {
		t.Fatal(err)
	}
	c, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
