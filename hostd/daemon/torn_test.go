package daemon_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// TestTornCheckpoints: what they have copied is on the standby all the same, with the
// next epoch that is whole, and the pair is the one that it was.
func TestTornCheckpoints(t *testing.T) {
	const dirty, epochs = 4, 8
	a, b := pairOfHosts(t)
	text := strings.Replace(specOf("m", "tears,dirty=4"), "enabled: false", "enabled: true", 1)
	if _, err := a.client.StartMachine(a.ctx(), &control.StartMachineRequest{Spec: []byte(text), File: "m.yaml"}); err != nil {
		t.Fatal(err)
	}
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	generation := a.machine("m").Generation
	a.await("a torn checkpoint", func() bool {
		return strings.Contains(strings.Join(a.machine("m").Warnings, " "), "taken again")
	})
	from := a.machine("m").Epoch
	a.await("epochs after it", func() bool { return a.machine("m").Epoch > from+epochs })
	if m := a.machine("m"); m.Role != "protected" || m.Generation != generation {
		t.Errorf("the machine is %v, and was of generation %d", m, generation)
	}
	ram, err := os.ReadFile(filepath.Join(b.config.RAMDir, "m.ram"))
	if err != nil {
		t.Fatal(err)
	}
	// Each checkpoint dirtied pages of its own and wrote its number there.
	for number := uint64(1); number <= from+epochs; number++ {
		at := number * dirty * 4096
		if got := binary.BigEndian.Uint64(ram[at:]); got != number {
			t.Errorf("the standby has %#x of checkpoint %d", got, number)
		}
	}
}

// TestALargeEpoch costs the protection where it is more than may be held, and neither
// the guest nor its host's memory.
func TestALargeEpoch(t *testing.T) {
	for limit, protected := range map[yamlfile.Size]bool{0: true, 16 << 20: false} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			a, _ := pairOfHostsWith(t, func(c *config.Config) {
				c.Limits.Epoch = limit
				c.Detection.QEMU = yamlfile.Duration(time.Minute) // a large one takes its time
			})
			a.mustStart("m", "dirty=4400") // of 4096 pages; an eighth more may be held by default
			err := a.protect("m", "b")
			if protected {
				if err != nil {
					t.Error(err)
				}
				return
			}
			mustFail(t, err, codes.FailedPrecondition, "limits.epoch", "epoch 1 has 4400 pages", "runs on here")
			if m := a.machine("m"); m.Role != "unprotected" || syscall.Kill(int(m.QemuPid), 0) != nil {
				t.Errorf("the machine is %v", m)
			}
		})
	}
}
