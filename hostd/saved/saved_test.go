package saved_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/stillpoint-ft/stillpoint/hostd/saved"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

func machine(t *testing.T) spec.Machine {
	t.Helper()
	m, err := spec.Parse("m.yaml", []byte("name: m\nmemory: 64MiB\nkernel: /k\ninitrd: /i\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var state = State{Standby: "b", Generation: 7, Taps: []string{"tap0"}, Limit: time.Second}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	d, m := Directory(filepath.Join(t.TempDir(), "machines")), machine(t)
	if names, err := d.Names(); err != nil || names != nil {
		t.Errorf("%q, %v", names, err)
	}
	for range 2 { // anew over an older one
		if err := d.Save("m", m, state); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(d.Path("m")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := os.WriteFile(d.Path("not a name"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Names(); err != nil || !slices.Equal(names, []string{"m"}) {
		t.Errorf("%q, %v", names, err)
	}
	s, got, err := d.Load("m")
	s.Spec = ""
	if err != nil || !reflect.DeepEqual(got, m) || !reflect.DeepEqual(s, state) {
		t.Errorf("%+v, %+v, %v", s, got, err)
	}
	for range 2 {
		if err := d.Forget("m"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := d.Load("m"); err == nil {
		t.Error("it is not forgotten")
	}
}

// TestGoldenState: a later version reads what this one writes, and this one what an earlier
// one has written.
func TestGoldenState(t *testing.T) {
	d := Directory(t.TempDir())
	if err := d.Save("m", machine(t), state); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.Path("m"))
	const want = `"standby":"b","generation":7,"taps":["tap0"],"limit":1000000000}`
	if err != nil || !strings.HasPrefix(string(b), `{"spec":"name: m\n`) || !strings.HasSuffix(string(b), want) {
		t.Errorf("%s, %v", b, err)
	}
	if err := os.WriteFile(d.Path("m"), []byte(`{"spec":"name: m\nmemory: 64MiB\nkernel: /k\ninitrd: /i\n"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, m, err := d.Load("m"); err != nil || m.Name != "m" || s.Generation != 0 {
		t.Error(s, m, err)
	}
}

// TestWhatCannotBeUsed says why, and where.
func TestWhatCannotBeUsed(t *testing.T) {
	d := Directory(t.TempDir())
	for name, text := range map[string]string{
		"empty": "", "cut": `{"spec":"na`, "no specification": `{}`, "of another": `{"spec":"name: n\nmemory: 64MiB\nkernel: /k\ninitrd: /i\n"}`,
	} {
		if err := os.WriteFile(d.Path("m"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Load("m"); err == nil || !strings.Contains(err.Error(), d.Path("m")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestADirectoryThatIsNone is told of; nothing is saved, and nothing lost.
func TestADirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := Directory(file)
	if _, err := d.Names(); err == nil || !strings.Contains(err.Error(), "restart the daemon") {
		t.Error(err)
	}
	if err := d.Save("m", machine(t), state); err == nil || !strings.Contains(err.Error(), "machine m") {
		t.Error(err)
	}
	if err := d.Forget("m"); err == nil {
		t.Error("forgotten where nothing is kept")
	}
	full := Directory(t.TempDir())
	if err := os.Mkdir(full.Path("m")+".new", 0o700); err != nil { // where the new one is to be written
		t.Fatal(err)
	}
	if err := full.Save("m", machine(t), state); err == nil {
		t.Error("saved in a directory's place")
	}
}
