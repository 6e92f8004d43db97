package e2e

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestGuestsRAMIsMappedInHugePages: where the file system of the guests' RAM has
// huge pages, QEMU gets the good of them.
func TestGuestsRAMIsMappedInHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage/shmem_enabled"); err != nil {
		t.Skip("this kernel has no huge pages on a tmpfs:", err)
	}
	s := newStage(t, 90*time.Second, scene.Options{})
	s.start()
	s.must(s.Boot(s.ctx, s.NAT()))
	pid, err := s.A.QEMUPid(scene.Machine)
	s.must(err)
	if kib := mappedHuge(t, pid, scene.Machine+".ram"); kib == 0 {
		t.Error("no huge page of the guest's RAM is mapped as one")
	}
}

// mappedHuge is how many KiB of a file a process has mapped in huge pages.
func mappedHuge(t *testing.T, pid int, file string) (kib int) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 0 && !strings.HasSuffix(fields[0], ":"):
			inside = strings.HasSuffix(lines.Text(), file)
		case inside && fields[0] == "ShmemPmdMapped:":
			n := 0
			if _, err := fmt.Sscan(fields[1], &n); err != nil {
				t.Fatal(err)
			}
			kib += n
		}
	}
	return kib
}
