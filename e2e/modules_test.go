package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/guestagent"
)

// requirements are all that each module within the tree may require, by itself or by
// way of another: whoever uses the module has them in a module graph of their own.
var requirements = map[string][]string{
	"guestagent": {
		"github.com/safchain/ethtool", module + "proto/agent", "github.com/vishvananda/netlink",
		"github.com/vishvananda/netns", "go.uber.org/goleak", "golang.org/x/sys",
	},
	"guestagent/googlegopacketsource": append([]string{"github.com/google/gopacket"}, ofAdapters...),
	"guestagent/gopacketsource":       append([]string{"github.com/gopacket/gopacket"}, ofAdapters...),
	"proto/agent":                     nil,
}

// ofAdapters is what the modules beside guestagent have from it.
var ofAdapters = []string{module + "guestagent", module + "proto/agent",
	"github.com/safchain/ethtool", "github.com/vishvananda/netlink", "github.com/vishvananda/netns", "golang.org/x/sys"}

type goMod struct {
	Module  struct{ Path string }
	Require []struct{ Path, Version string }
	Replace []struct {
		Old struct{ Path string }
		New struct{ Path string }
	}
}

func readGoMod(t *testing.T, file string) (m goMod) {
	t.Helper()
	out, err := exec.Command("go", "mod", "edit", "-json", file).Output()
	if err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	return m
}

// TestModulesAlone: each module builds by itself, as whoever requires it builds it, and
// where its users' programs are tested.
func TestModulesAlone(t *testing.T) {
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	check := func(dir, system string, args ...string) {
		t.Helper()
		c := exec.CommandContext(t.Context(), "go", args...)
		c.Dir, c.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOOS="+system)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("go %s in %s for %s: %v\n%s", strings.Join(args, " "), dir, system, err, out)
		}
	}
	check(top, "linux", "build", "./...")
	for _, system := range []string{"linux", "darwin", "windows"} {
		t.Run(system, func(t *testing.T) {
			pace.SkipOnSlow(t, system == "linux") // the others need a standard library each
			for _, dir := range modulesWithin(t, top) {
				check(filepath.Join(top, dir), system, "vet", "./...")
			}
		})
	}
}

// TestModulesWithin: each is in go.work and in the Makefile's list, whose patterns do not
// reach it otherwise, and requires no more than it may.
func TestModulesWithin(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(makefile), "\nMODULES = ")
	list, _, _ = strings.Cut(list, "\n")
	out, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		t.Fatal("list the modules of go.work: ", err)
	}
	for _, dir := range modulesWithin(t, "..") {
		if !slices.Contains(strings.Fields(list), dir) || !slices.Contains(strings.Fields(string(out)), module+dir) {
			t.Errorf("%s is not in the Makefile's MODULES, or not in go.work", dir)
		}
		allowed, known := requirements[dir]
		if !known {
			t.Errorf("nothing says what %s may require", dir)
		}
		m := readGoMod(t, filepath.Join("..", dir, "go.mod"))
		for _, r := range m.Require {
			if !slices.Contains(allowed, r.Path) {
				t.Errorf("%s requires %s", dir, r.Path)
			}
		}
		checkOurs(t, m)
	}
	checkOurs(t, readGoMod(t, "../go.mod"))
}

// checkOurs: what a module requires of this tree has the version that a release tags, and
// is taken from the tree, where nothing is tagged yet.
func checkOurs(t *testing.T, m goMod) {
	t.Helper()
	for _, r := range m.Require {
		if !strings.HasPrefix(r.Path, module) {
			continue
		}
		if r.Version != "v"+guestagent.Version {
			t.Errorf("%s requires %s %s, and the library is %s", m.Module.Path, r.Path, r.Version, guestagent.Version)
		}
		found := false
		for _, p := range m.Replace {
			found = found || p.Old.Path == r.Path && strings.HasPrefix(p.New.Path, ".")
		}
		if !found {
			t.Errorf("%s does not replace %s by a folder", m.Module.Path, r.Path)
		}
	}
}

// TestTheAdaptersAreAlike: each has the types of its gopacket, so none can call the other;
// what they do with them, and how that is tested, is the same to the letter.
func TestTheAdaptersAreAlike(t *testing.T) {
	read := func(dir, file string) string {
		b, err := os.ReadFile(filepath.Join("../guestagent", dir, file))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "github.com/google/gopacket", "github.com/gopacket/gopacket")
		text = strings.ReplaceAll(text, "googlegopacketsource", "gopacketsource")
		_, text, _ = strings.Cut(text, "package gopacketsource") // the comment before it differs
		return text
	}
	for _, file := range []string{"source.go", "source_test.go", "example_test.go"} {
		ours, googles := read("gopacketsource", file), read("googlegopacketsource", file)
		if ours == "" || ours != googles {
			t.Errorf("%s of guestagent/gopacketsource and of guestagent/googlegopacketsource differ in more than names", file)
		}
	}
}

func modulesWithin(t *testing.T, top string) (dirs []string) {
	t.Helper()
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		if d.IsDir() && (name == "build" || name == ".git") {
			return filepath.SkipDir
		}
		if d.Name() == "go.mod" && name != "go.mod" {
			dirs = append(dirs, filepath.Dir(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal("look for modules: ", err)
	}
	return dirs
}
