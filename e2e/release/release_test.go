package release

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/guestagent"
)

const root = "../.."

// numbers of docs/compatibility.md: what a row begins with, and where the code has it.
var numbers = []struct{ row, file, pattern string }{
	{"| replica protocol, primary to standby | N, oldest ", "proto/replica/types.go", `ProtocolNewest = (\d+)`},
	{", oldest N | `proto/replica/types.go` |", "proto/replica/types.go", `ProtocolOldest = (\d+)`},
	{"| frames of the replica protocol | N | `proto/replica/frame.go` |", "proto/replica/frame.go", `\tversion = (\d+)`},
	{"| agent protocol, host to guest | N | `proto/agent/frame.go` |", "proto/agent/frame.go", `\tversion = (\d+)`},
	{"| supervisor's protocol | N | `hostd/supervise/wire.go` |", "hostd/supervise/wire.go", `\tversion = (\d+)`},
	{"| control API | N | `proto/control/control.proto` |", "proto/control/control.proto", `package stillpoint\.control\.(v\d+);`},
	{"| arbiter's records | N | `hostd/arbiter/etcd.go` |", "hostd/arbiter/etcd.go", `"/stillpoint/(v\d+)/"`},
	{"| etcd inside the daemons | N | `go.mod` |", "go.mod", `etcd/server/v3 v(\d+\.\d+)\.`},
	{"| Go, to build | N | `go.mod` |", "go.mod", `(?m)^go (\d+\.\d+)`},
}

func TestNumbersOfCompatibility(t *testing.T) {
	page := read(t, "docs/compatibility.md")
	for _, n := range numbers {
		found := regexp.MustCompile(n.pattern).FindStringSubmatch(read(t, n.file))
		if found == nil {
			t.Errorf("%s has no %s: mend this test and docs/compatibility.md", n.file, n.pattern)
			continue
		}
		if want := strings.Replace(n.row, "N", found[1], 1); !strings.Contains(page, want) {
			t.Errorf("docs/compatibility.md does not say %q, as %s does", want, n.file)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOneVersion: the newest release of the changelog is the library's version, and with
// that of the tag, which is the daemon's.
func TestOneVersion(t *testing.T) {
	newest := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$`).FindStringSubmatch(read(t, "CHANGELOG.md"))
	if newest == nil {
		t.Fatal("CHANGELOG.md has no release")
	}
	if newest[1] != guestagent.Version {
		t.Errorf("the newest release of CHANGELOG.md is %s, and guestagent.Version %s", newest[1], guestagent.Version)
	}
}
