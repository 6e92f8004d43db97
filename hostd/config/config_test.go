package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const least = "host: a\nlisten: 10.99.0.1:7600\narbiter: {directory: /srv/arbiter}\n"

// TestExample also proves that the defaults the documentation shows are those
// of the code.
func TestExample(t *testing.T) {
	c, err := Load("../../docs/examples/hostd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.File = c.File
	want.Host, want.Listen = "a", "10.99.0.1:7600"
	want.Arbiter.Embedded = &Embedded{Peer: "10.98.0.1:7601", Client: "10.98.0.1:7602", Cluster: exampleCluster}
	want.Peers = []Peer{{Name: "b", Address: "10.99.0.2:7600"}}
	want.ControlSocket, want.QEMU.ExtraArgs = "/run/stillpoint/hostd.sock", []string{}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

var exampleCluster = []EmbeddedArbiter{
	{Name: "a", Peer: "10.98.0.1:7601", Client: "10.98.0.1:7602"},
	{Name: "b", Peer: "10.98.0.2:7601", Client: "10.98.0.2:7602"},
	{Name: "w", Peer: "10.98.0.3:7601", Client: "10.98.0.3:7602"},
}

func TestExampleOfAWitness(t *testing.T) {
	c, err := LoadWitness("../../docs/examples/witness.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "w" || !c.Member() || !reflect.DeepEqual(c.Arbiter.Embedded.Cluster, exampleCluster) {
		t.Errorf("got %+v", c)
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse("c.yaml", []byte(least+"run-dir: /run/other\ndetection: {limit: 1s}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.ControlSocket != "/run/other/hostd.sock" {
		t.Errorf("control socket %s is not in the run-dir", c.ControlSocket)
	}
	if c.Detection.Heartbeat != Default().Detection.Heartbeat || c.Limits != Default().Limits {
		t.Errorf("fields that were not given are not the defaults: %+v", c)
	}
}

func TestUserOfQEMU(t *testing.T) {
	for text, want := range map[string]string{"libvirt-qemu": "libvirt-qemu", "64055": "64055", "64055:108": "64055:108", `"077:1"`: "077:1", `""`: ""} {
		c, err := Parse("c.yaml", []byte(least+"qemu: {user: "+text+"}\n"))
		if err != nil || c.QEMU.User != want {
			t.Errorf("%s: %q, %v", text, c.QEMU.User, err)
		}
	}
	for _, text := range []string{"a:b", `"1:"`, `":1"`, "a b", "-1", "1:2:3", "12345678901"} {
		if _, err := Parse("c.yaml", []byte(least+"qemu: {user: "+text+"}\n")); err == nil || !strings.Contains(err.Error(), "c.yaml:4: qemu.user: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLoadOfNoFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !os.IsNotExist(unwrap(err)) {
		t.Errorf("got %v", err)
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

// TestErrors parses each testdata/errors/*.yaml and compares all that is said
// with the file beside it.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse("hostd.yaml", b)
			if err == nil {
				t.Fatal("no error")
			}
			compare(t, strings.TrimSuffix(file, "yaml")+"golden", err.Error()+"\n")
		})
	}
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Add([]byte(least + "peers: [{name: b, address: 10.99.0.2:7600}]\nlimits: {held-output: 1GiB}\n"))
	f.Add([]byte("peers: [null]\nqemu:\nlog: {}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("f.yaml", b)
		if err == nil && (c.Host == "" || c.ControlSocket == "" || c.Detection.Limit < 3*c.Detection.Heartbeat) {
			t.Fatalf("accepted %+v", c)
		}
	})
}
