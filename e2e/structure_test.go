package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/stillpoint-ft/stillpoint/"

// rules say which of our packages a package may import. The first rule whose
// prefix matches holds; "*" allows all of ours.
var rules = []struct {
	prefix  string
	allowed []string
}{
	{"proto/", nil},
	{"qmp/libvirt", []string{"qmp"}},
	{"qmp", nil},
	{"guestagent/", []string{"guestagent", "proto/agent"}},
	{"guestagent", []string{"proto/agent"}},
	{"hostd/pair", nil},
	{"hostd/voice", []string{"hostd/arbiter"}},
	{"hostd/policy", nil},
	{"hostd/arbiter", []string{"hostd/pki"}}, // who knocks at a member's ports
	{"hostd/pki", nil},
	{"hostd/console", nil},
	{"hostd/logsink", nil},
	{"hostd/supervise", []string{"qmp"}},
	{"hostd/fifo", nil},
	{"hostd/lane", []string{"hostd/fifo"}},
	{"hostd/segment", []string{"hostd/fifo"}},
	{"hostd/station", nil},
	{"hostd/rtnetlink", nil},
	{"hostd/netdev", []string{"hostd/rtnetlink", "hostd/segment"}},
	{"hostd/gate", []string{"hostd/fifo", "hostd/lane", "hostd/netdev", "hostd/rtnetlink", "hostd/segment", "hostd/station"}},
	{"hostd/fault", nil},
	{"hostd/yamlfile", nil},
	{"hostd/capture", []string{"proto/colo", "qmp"}},
	{"hostd/replica", []string{"proto/colo", "proto/replica"}},
	{"hostd/link", []string{"proto/replica"}},
	{"hostd/pack", []string{"proto/replica"}},
	{"hostd/quiesce", []string{"proto/agent"}},
	{"hostd/config", []string{"hostd/yamlfile"}},
	{"hostd/spec", []string{"hostd/yamlfile"}},
	{"hostd/machine", []string{"hostd/spec", "qmp"}},
	{"hostd/cli", []string{"hostd/config", "hostd/logsink", "hostd/pki", "hostd/spec", "proto/control"}},
	{"hostd", []string{"*"}},
	{"images", []string{"guestagent", "images", "proto/agent", "proto/probe"}},
	{"e2e", []string{"*"}},
}

// TestImportDirections keeps data flowing one way through the house.
func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "work").Output()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], module)
		for _, imported := range fields[1:] {
			to, ours := strings.CutPrefix(imported, module)
			if ours {
				checked++
				if !mayImport(from, to) {
					t.Errorf("%s imports %s", from, to)
				}
			}
		}
	}
	if checked == 0 {
		t.Fatal("no import was checked")
	}
}

func mayImport(from, to string) bool {
	for _, r := range rules {
		if !strings.HasPrefix(from, r.prefix) {
			continue
		}
		for _, a := range r.allowed {
			if a == "*" || to == a || strings.HasPrefix(to, a+"/") {
				return true
			}
		}
		return false
	}
	return false
}
