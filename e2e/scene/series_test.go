package scene

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSeriesThatAreSetUp: tests run on what is there, the default one first.
func TestSeriesThatAreSetUp(t *testing.T) {
	for name, c := range map[string]struct {
		programs []string
		byName   string // what the program without a number is
		want     []string
	}{
		"both":                {[]string{"10.0", "11"}, "11", []string{"11", "10.0"}},
		"the older left out":  {[]string{"11"}, "11", []string{"11"}},
		"the older by choice": {[]string{"10.0", "11"}, "10.0", []string{"10.0"}},
	} {
		build := t.TempDir()
		if err := os.Mkdir(filepath.Join(build, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, series := range c.programs {
			if err := os.WriteFile(QEMUProgram(build, series), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("qemu-system-x86_64-"+c.byName, QEMUProgram(build, "")); err != nil {
			t.Fatal(err)
		}
		if got := Series(build); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
