//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVersions(t *testing.T) {
	for text, want := range map[string]struct{ version, series string }{
		"QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright": {"10.0.13", "10.0"},
		"1:10.0.13+ds-0+deb13u1": {"10.0.13", "10.0"},
		"10.0.14":                {"10.0.14", "10.0"},
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)": {"7.2.22", ""},
		"1:10.0.2+ds-2+deb13u1~bpo12+1":                               {"10.0.2", ""},
		"QEMU emulator version 10.1.13":                               {"10.1.13", ""},
		"QEMU emulator version 11.0.0":                                {"11.0.0", ""},
		"QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)": {"11.1.3", "11"},
		"1:11.1.2+ds-1": {"11.1.2", "11"},
		"12.0.0":        {"12.0.0", ""},
	} {
		v, ok := parseVersion(text)
		if !ok || v.String() != want.version || goodAs(v) != want.series {
			t.Errorf("%q is %v (understood %v), good as %q", text, v, ok, goodAs(v))
		}
	}
	for _, text := range []string{"", "1:7.2+dfsg", "no such thing", "QEMU emulator version x"} {
		if v, ok := parseVersion(text); ok {
			t.Errorf("%q is %v", text, v)
		}
	}
}

// goodAs names the series that a version is good as.
func goodAs(v version) (names string) {
	for _, s := range allSeries {
		if s.good(v) {
			names += s.name
		}
	}
	return names
}

func TestDefaultSeriesIsOne(t *testing.T) {
	for _, s := range allSeries {
		if s.name == defaultSeries {
			return
		}
	}
	t.Errorf("%q is no series", defaultSeries)
}

// Of Debian 13's line comes its backports' line, whatever mirror it names.
func TestBackports(t *testing.T) {
	for sources, want := range map[string]string{
		"deb http://mirror.test/debian trixie main\n":                                  "deb http://mirror.test/debian trixie-backports main\n",
		"# none\n\ndeb http://a.test/security x\ndeb file:/srv/d trixie main non-free": "deb file:/srv/d trixie-backports main\n",
		"deb http://mirror.test/debian bookworm main\n":                                "",
		"": "",
	} {
		got, err := backportsOf(sources)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", sources, got, err, want)
		}
	}
}

func TestLinkReplacesWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu")
	script(t, path, "an old wrapper")
	for _, target := range []string{"one", "two", "two"} {
		if err := link(path, target); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Errorf("it leads to %q, %v, want %q", got, err, target)
		}
	}
}

// A series that needs no shim never gets one.
func TestWrapperWithoutShim(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	script(t, filepath.Join(root, "lib64", "ld-linux-x86-64.so.2"), "#!/bin/sh\necho \"preload<$LD_PRELOAD> $*\"\n")
	for name, text := range map[string]string{"root": rootWrapper(root, ""), "packaged": packagedWrapper(filepath.Join(root, "lib64", "ld-linux-x86-64.so.2"), "")} {
		wrapper := filepath.Join(root, name)
		script(t, wrapper, text)
		for _, c := range shimCases {
			if out := output(t, wrapper, c.args, c.environment); strings.Contains(out, "--preload") || !strings.Contains(out, "preload<>") {
				t.Errorf("%s, %s %s: %s", name, c.environment, c.args, out)
			}
		}
	}
}

func TestCandidate(t *testing.T) {
	for policy, want := range map[string]string{
		"ip:\n  Installed: (none)\n  Candidate: 6.1.0-3\n  Version table:\n": "6.1.0-3",
		"ip:\n  Installed: (none)\n  Candidate: (none)\n":                    "",
		"": "",
	} {
		if got := candidateIn(policy); got != want {
			t.Errorf("%q: %q, want %q", policy, got, want)
		}
	}
}

var shimCases = []struct {
	args        string
	environment string
	want        bool
}{
	{"-machine pc,accel=tcg,memory-backend=ram0 -m 256M", "", true},
	{"-M accel=tcg", "", true},
	{"-accel tcg,thread=single", "", true},
	{"--accel tcg", "", true},
	{"-accel kvm", "", false},
	{"-machine pc,accel=kvm", "", false},
	{"-append accel=tcg -accel kvm", "", false},
	{"--version", "", false},
	{"-accel kvm", "STILLPOINT_TCG_SHIM=1", true},
	{"-accel kvm", "STILLPOINT_TCG_SHIM=", false},
}

// A false loader tells what it is run with.
func TestRootWrapper(t *testing.T) {
	root := filepath.Join(t.TempDir(), "it's root")
	loader := filepath.Join(root, "lib64", "ld-linux-x86-64.so.2")
	script(t, loader, "#!/bin/sh\nfor word in \"$@\"; do echo \"<$word>\"; done\n")
	wrapper := filepath.Join(root, "qemu")
	script(t, wrapper, rootWrapper(root, "/cache/shim.so"))
	for _, c := range shimCases {
		out := output(t, wrapper, c.args, c.environment)
		if got := strings.Contains(out, "<--preload>\n<"+"/cache/shim.so>\n"); got != c.want {
			t.Errorf("%s %s: preloaded %v, want %v:\n%s", c.environment, c.args, got, c.want, out)
		}
		tail := "<" + strings.Join(strings.Fields(c.args), ">\n<") + ">\n"
		if !strings.HasSuffix(out, tail) || !strings.Contains(out, "<"+root+"/usr/bin/qemu-system-x86_64>") {
			t.Errorf("%s is passed on as\n%s", c.args, out)
		}
	}
}

func TestPackagedWrapper(t *testing.T) {
	dir := t.TempDir()
	qemu, wrapper := filepath.Join(dir, "qemu"), filepath.Join(dir, "wrapper")
	// Built into the shell, so that nothing is run with the library that is not there.
	script(t, qemu, "#!/bin/sh\necho \"preload<$LD_PRELOAD> $*\"\n")
	script(t, wrapper, packagedWrapper(qemu, filepath.Join(dir, "shim.so")))
	for _, c := range shimCases {
		want := "preload<> " + c.args
		if c.want {
			want = "preload<" + dir + "/shim.so> " + c.args
		}
		if got := output(t, wrapper, c.args, c.environment); !strings.Contains(got, want) {
			t.Errorf("%s %s: %q, want %q", c.environment, c.args, got, want)
		}
	}
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func output(t *testing.T, program, args, environment string) string {
	t.Helper()
	cmd := exec.Command(program, strings.Fields(args)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), environment}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", program, args, err)
	}
	return string(out)
}

func TestReplaceLeavesAnEqualFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wrapper")
	if err := replace(path, []byte("one"), 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1000, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, []byte("one"), 0o755); err != nil {
		t.Fatal(err)
	}
	if s, err := os.Stat(path); err != nil || !s.ModTime().Equal(old) || s.Mode().Perm() != 0o755 {
		t.Errorf("an equal file was replaced: %v, %v", s, err)
	}
	if err := replace(path, []byte("two"), 0o755); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "two" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestStepShowsWhyItFailed(t *testing.T) {
	err := step("trying", exec.CommandContext(t.Context(), "sh", "-c", "echo the reason >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("the error is %v", err)
	}
	if err := step("trying", exec.CommandContext(t.Context(), "true")); err != nil {
		t.Error(err)
	}
}
