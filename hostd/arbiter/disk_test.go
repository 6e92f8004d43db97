package arbiter

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/disk"
)

// TestAMembersDiskThatFails ends the member, says why, and the member comes back with
// all that it has acknowledged once the disk is well.
func TestAMembersDiskThatFails(t *testing.T) {
	if !disk.Own(t) {
		return
	}
	for _, f := range disk.Faults(t) {
		t.Run(f.Name, func(t *testing.T) {
			o := alone(t)
			d := f.Mount(t, filepath.Dir(o.Dir), 2*roomNew)
			k := keepIt(t, &job{Do: "member", Options: o})
			a := openEtcd(t, EtcdOptions{Endpoints: []string{o.Client}})
			stands := win(t, a, 0, Record{Machine: "nat", Voice: "a"})
			waitFor(t, func() bool {
				mark, err := o.readMark()
				return err == nil && mark != nil && mark.Machines["nat"].Generation == 1
			})
			waitFor(t, func() bool { return k.Down() == "" })
			d.Fail(t)
			waitFor(t, func() bool { // it notices when it writes
				_, _ = a.TestAndSet(within(t, 200*time.Millisecond), stands.Generation, Record{Machine: "nat", Voice: "b"})
				return strings.Contains(k.Down(), f.Says)
			})
			if down := k.Down(); !strings.Contains(down, "replace it") {
				t.Errorf("down: %q", down)
			}
			starts := k.starts.Load()
			waitFor(t, func() bool { return k.starts.Load() > starts }) // and it is tried again
			d.Mend(t)
			waitFor(t, func() bool { return k.Down() == "" })
			if r, err := a.Current(soon(t), "nat"); err != nil || r != stands && r.Generation != 2 {
				t.Errorf("%+v, %v; granted was %+v", r, err, stands)
			}
		})
	}
}
