package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/stillpoint-ft/stillpoint/"

// rule says which of our packages a package may import, and which its tests may besides.
// What is not listed is denied, and a package without a rule is an error. A name with "/..."
// stands for all below it; "*" allows all of ours.
type rule struct{ imports, tests []string }

func words(text string) []string { return strings.Fields(text) }

var rules = map[string]rule{
	"proto/...":      {},
	"qmp":            {},
	"qmp/libvirt":    {tests: words("qmp")},
	"guestagent":     {imports: words("proto/agent"), tests: words("guestagent/agenttest")},
	"guestagent/...": {imports: words("guestagent proto/agent"), tests: words("guestagent/agenttest")},

	// What decides, and knows neither clock nor wire.
	"hostd/pair":   {},
	"hostd/policy": {},
	"hostd/fault":  {},

	// Codecs, files and small parts.
	"hostd/yamlfile":  {},
	"hostd/config":    {imports: words("hostd/yamlfile")},
	"hostd/spec":      {imports: words("hostd/yamlfile")},
	"hostd/saved":     {imports: words("hostd/spec")},
	"hostd/console":   {},
	"hostd/logsink":   {},
	"hostd/fifo":      {},
	"hostd/lane":      {imports: words("hostd/fifo")},
	"hostd/segment":   {imports: words("hostd/fifo"), tests: words("e2e/offload")},
	"hostd/station":   {},
	"hostd/rtnetlink": {},
	"hostd/pack":      {imports: words("proto/replica")},

	// The edges: interfaces, QEMU, peers, the arbiter.
	"hostd/netdev":  {imports: words("hostd/rtnetlink hostd/segment"), tests: words("e2e/netns")},
	"hostd/gate":    {imports: words("hostd/fifo hostd/lane hostd/netdev hostd/rtnetlink hostd/segment hostd/station"), tests: words("e2e/journal e2e/netns e2e/offload")},
	"hostd/machine": {imports: words("hostd/console hostd/spec qmp"), tests: words("hostd/yamlfile")},
	"hostd/capture": {imports: words("proto/colo qmp")},
	"hostd/quiesce": {imports: words("proto/agent"), tests: words("guestagent guestagent/agenttest")},
	"hostd/replica": {imports: words("proto/colo proto/replica"), tests: words("hostd/pack")},
	"hostd/link":    {imports: words("proto/replica"), tests: words("e2e/loopback")},
	"hostd/pki":     {tests: words("e2e/journal e2e/loopback")},
	"hostd/arbiter": {imports: words("hostd/pki"), tests: words("e2e/disk e2e/journal")}, // who knocks at a member's ports
	"hostd/voice":   {imports: words("hostd/arbiter")},
	"hostd/compat":  {imports: words("hostd/machine hostd/spec proto/replica qmp"), tests: words("e2e/falseqemu")},

	// The halves of a pair, which do not know each other.
	"hostd/status": {imports: words("hostd/pair hostd/policy")},
	"hostd/primary": {imports: words("hostd/capture hostd/compat hostd/config hostd/fault hostd/gate hostd/link hostd/pack hostd/pair hostd/policy hostd/quiesce hostd/spec hostd/status proto/colo proto/replica qmp"),
		tests: words("e2e/falseqemu e2e/loopback hostd/machine hostd/pki hostd/replica hostd/standby hostd/yamlfile")},
	"hostd/standby": {imports: words("hostd/fault hostd/gate hostd/link hostd/pair hostd/replica hostd/spec hostd/status proto/replica qmp"),
		tests: words("e2e/falseqemu e2e/loopback hostd/machine hostd/pack")},
	"hostd/warning": {imports: words("hostd/gate hostd/pair hostd/policy hostd/status")},

	// What an operator meets, and what joins all.
	"hostd/api":       {imports: words("hostd/spec hostd/status proto/control"), tests: words("hostd/pair")},
	"hostd/cli":       {imports: words("hostd/config hostd/logsink hostd/pki proto/control")},
	"hostd/supervise": {imports: words("qmp")},
	"hostd/daemon": {imports: words("hostd/api hostd/arbiter hostd/capture hostd/compat hostd/config hostd/fault hostd/gate hostd/link hostd/machine hostd/pair hostd/pki hostd/policy hostd/primary hostd/quiesce hostd/replica hostd/saved hostd/spec hostd/standby hostd/status hostd/supervise hostd/voice hostd/warning proto/colo proto/control proto/replica qmp"),
		tests: words("e2e/disk e2e/falseqemu e2e/journal e2e/netns e2e/pace hostd/console hostd/logsink hostd/yamlfile")},
	"hostd/sim": {tests: words("e2e/pace hostd/arbiter hostd/capture hostd/config hostd/daemon hostd/fault hostd/gate hostd/machine hostd/pair hostd/yamlfile proto/colo proto/control qmp")},
	"hostd":     {imports: words("hostd/arbiter hostd/cli hostd/config hostd/console hostd/daemon hostd/fault hostd/machine hostd/pki hostd/supervise hostd/voice")},

	"images/...": {imports: words("guestagent guestagent/agenttest images/... proto/agent proto/probe"), tests: words("*")},
	"images":     {tests: words("*")},
	"e2e":        {imports: words("*"), tests: words("*")},
	"e2e/...":    {imports: words("*"), tests: words("*")},
}

// TestImportDirections keeps data flowing one way through the house, in tests too.
func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}|{{join .TestImports " "}} {{join .XTestImports " "}}`, "work").Output()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Split(line, "|")
		from := strings.TrimPrefix(fields[0]+"/", module)
		from = strings.TrimSuffix(from, "/")
		r, ok := ruleOf(from)
		if !ok {
			t.Errorf("no rule says what %s may import", from)
			continue
		}
		checked += check(t, from, fields[1], r.imports)
		check(t, "a test of "+from, fields[2], append(slices.Concat(r.imports, r.tests), from))
	}
	if checked < 100 {
		t.Fatalf("%d imports were checked", checked)
	}
}

// check a package's imports, and count those that are ours.
func check(t *testing.T, who, imports string, allowed []string) (ours int) {
	t.Helper()
	for _, imported := range strings.Fields(imports) {
		to, our := strings.CutPrefix(imported, module)
		if !our {
			continue
		}
		ours++
		if !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, to) }) {
			t.Errorf("%s imports %s", who, to)
		}
	}
	return ours
}

// ruleOf a package: its own, or the closest of those above it.
func ruleOf(name string) (r rule, ok bool) {
	if r, ok = rules[name]; ok {
		return r, true
	}
	for ; strings.Contains(name, "/"); name = name[:strings.LastIndex(name, "/")] {
		if r, ok = rules[name[:strings.LastIndex(name, "/")]+"/..."]; ok {
			return r, true
		}
	}
	return rule{}, false
}

func matches(pattern, name string) bool {
	above, all := strings.CutSuffix(pattern, "/...")
	return pattern == "*" || pattern == name || all && (name == above || strings.HasPrefix(name, above+"/"))
}

// TestRulesAreNeeded: what nobody imports any more is not allowed.
func TestRulesAreNeeded(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}|{{join .Imports " "}}|{{join .TestImports " "}} {{join .XTestImports " "}}`, "work").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Split(line, "|")
		from := strings.TrimPrefix(fields[0], module)
		r, own := rules[from]
		if !own {
			continue
		}
		for _, a := range r.imports {
			if a != "*" && !strings.Contains(fields[1]+" ", module+a+" ") {
				t.Errorf("%s may import %s, and does not", from, a)
			}
		}
		for _, a := range r.tests {
			if a != "*" && !strings.Contains(fields[2]+" ", module+a+" ") {
				t.Errorf("a test of %s may import %s, and does not", from, a)
			}
		}
	}
}

// TestSizes: no package of hostd holds more than an eighth of its lines, no file has more
// than 500, and no function more than 50. Generated code has its own ways.
func TestSizes(t *testing.T) {
	lines := map[string]int{}
	all := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "build" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".pb.go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		n := checkSizes(t, path)
		if dir := filepath.ToSlash(filepath.Dir(path)); strings.HasPrefix(dir+"/", "../hostd/") {
			lines[dir] += n
			all += n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range lines {
		if n > all/8 {
			t.Errorf("%s holds %d of hostd's %d lines", dir, n, all)
		}
	}
}

// checkSizes of a file and its functions, and return its lines.
func checkSizes(t *testing.T, path string) int {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	n := set.File(f.Pos()).LineCount()
	if n > 500 {
		t.Errorf("%s has %d lines", path, n)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			if size := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; size > 50 {
				t.Errorf("%s: %s has %d lines", path, fn.Name.Name, size)
			}
		}
	}
	return n
}
