package spec

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const least = "name: nat\nmemory: 64MiB\nkernel: /vmlinuz\n"

const example = "../../docs/examples/nat.yaml"

func TestExample(t *testing.T) {
	m, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "nat" || m.Memory != 256<<20 || len(m.Ports) != 2 {
		t.Fatalf("%+v", m)
	}
	if m.Protection != Default().Protection {
		t.Errorf("the example's protection is no longer the default: %+v", m.Protection)
	}
}

func TestDefaults(t *testing.T) {
	m, err := Parse("m.yaml", []byte(least+"protection: {overhead: 20%}\nports: [{name: in, tap: t, uplink: u, mac: \"52:54:00:00:00:01\"}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default().Protection
	want.Overhead = 0.20
	if m.Protection != want {
		t.Errorf("one field given, the others are not the defaults: %+v", m.Protection)
	}
	if !m.Ports[0].OffloadsOn() {
		t.Error("offloads are off by default")
	}
}

func TestMarshalReadsBackTheSame(t *testing.T) {
	m, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	again := reparse(t, m)
	if !reflect.DeepEqual(m, again) {
		t.Errorf("%+v\nis read back as\n%+v", m, again)
	}
}

func reparse(t *testing.T, m Machine) Machine {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again.yaml", b)
	if err != nil {
		t.Fatalf("%v in\n%s", err, b)
	}
	return again
}

func TestDigest(t *testing.T) {
	digest := func(text string) string {
		m, err := Parse("m.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a := digest(least)
	if b := digest("# layout and defaults do not count\nkernel: /vmlinuz\ncpus: 1\nmemory: 65536KiB\nname: nat\n"); a != b {
		t.Error("the same specification, another digest")
	}
	if digest(least+"cpus: 2\n") == a {
		t.Error("another specification, the same digest")
	}
	const golden = "testdata/digest.golden"
	compare(t, golden, a+"\n")
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
			_, err = Parse("m.yaml", b)
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
	f.Add([]byte(least + "ports: [{name: in, tap: t, uplink: u, mac: \"52:54:00:00:00:01\", addresses: [10.1.0.1, \"::1\"]}]\n"))
	f.Add([]byte("ports: [null]\nprotection:\ndisk: {}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse("f.yaml", b)
		if err != nil {
			return
		}
		text, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again.yaml", text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if second, err := again.Marshal(); err != nil || string(second) != string(text) {
			t.Fatalf("%v\n%s\nthen\n%s", err, text, second)
		}
	})
}

// TestNamesThatLookLikeSomethingElse: what Marshal writes, as it does for the
// standby, is the same machine.
func TestNamesThatLookLikeSomethingElse(t *testing.T) {
	for _, name := range []string{"01", "0755", "1.10", "1e3", "0x1F", "true", "False", "null", "no", "2024-01-01", "12_000"} {
		m, err := Parse("m.yaml", []byte("name: \""+name+"\"\nmemory: 64MiB\nkernel: /k\nappend: \""+name+"\"\ncpu: \""+name+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("again.yaml", text)
		if err != nil || back.Name != name || back.Append != name || back.CPU != name {
			t.Errorf("%s: %v, name %q, append %q, cpu %q in %s", name, err, back.Name, back.Append, back.CPU, text)
		}
	}
}

func TestMachineTypes(t *testing.T) {
	for machine, good := range map[string]bool{
		"pc": true, "q35": true, "pc-i440fx-10.0": true, "pc-q35-11.1": true,
		"": false, "microvm": false, "pc-i440fx": false, "pc-i440fx-10.0,accel=tcg": false, "pc-i440fx-10.0\n": false, "xpc": false,
	} {
		m := Default()
		m.Name, m.Memory, m.Kernel, m.Machine = "m", 64<<20, "/vmlinuz", machine
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("m.yaml", b); (err == nil) != good {
			t.Errorf("%q: %v", machine, err)
		}
	}
}

// TestAppendFolds: the error about a command line of several lines says to fold it.
func TestAppendFolds(t *testing.T) {
	m, err := Parse("m.yaml", []byte(least+"append: >-\n  console=ttyS0\n  quiet\ncpus: 2\n"))
	if err != nil || m.Append != "console=ttyS0 quiet" || m.CPUs != 2 {
		t.Errorf("%q, %d processors, %v", m.Append, m.CPUs, err)
	}
}

// TestLettersThatEndALine to one version of YAML and not to another.
func TestLettersThatEndALine(t *testing.T) {
	m, err := Parse("m.yaml", []byte(least+`append: "é\u2028a\u2029b"`+"\n"))
	if err != nil || m.Append != "é\u2028a\u2029b" {
		t.Fatalf("%q, %v", m.Append, err)
	}
	if again := reparse(t, m); again.Append != m.Append {
		t.Errorf("%q is read back as %q", m.Append, again.Append)
	}
}
