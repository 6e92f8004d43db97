package lab

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// TestSweep kills the maker of a lab and removes what it left.
func TestSweep(t *testing.T) {
	if err := Available(); err != nil {
		t.Skipf("no lab here: %v", err)
	}
	dir := t.TempDir()
	maker := exec.Command(os.Args[0])
	maker.Env = append(os.Environ(), role+"=maker", "MAKER_DIR="+dir)
	maker.Stderr = os.Stderr
	out, err := maker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	name := strings.TrimSpace(line)
	if err != nil {
		t.Errorf("the maker said %q: %v", line, err)
	}
	visitor := visit(t, name+"-hosta")
	if swept, err := Sweep(); err != nil || slices.Contains(swept, name) {
		t.Errorf("swept %q, %v while the maker lives", swept, err)
	}
	maker.Process.Kill()
	maker.Wait()
	if got := traces(t, name); len(got) < 9 { // 5 namespaces, record, a mount, the machine, its supervisor
		t.Errorf("the dead lab shows as %q", got)
	}
	start := time.Now()
	swept, err := Sweep()
	if err != nil || !slices.Contains(swept, name) {
		t.Fatalf("swept %q, %v", swept, err)
	}
	t.Logf("swept in %v", time.Since(start))
	if got := traces(t, name); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if !visitor.Alive() {
		t.Error("a process that the lab did not start was killed")
	}
}

// visit puts a process that is not the lab's into one of its namespaces.
func visit(t *testing.T, namespace string) Process {
	t.Helper()
	handle, err := netns.GetFromName(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	s := &Space{Name: namespace, handle: handle}
	cmd := exec.Command("cat")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hold.(io.Closer).Close(); cmd.Wait() })
	p, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
