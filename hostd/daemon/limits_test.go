package daemon

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// TestLimitsReachTheGate: what is configured is what the gate is opened with.
func TestLimitsReachTheGate(t *testing.T) {
	d := &Daemon{config: config.Default()}
	d.config.Limits.HeldOutput, d.config.Limits.HeldInput, d.config.Limits.InputDelay = 3<<20, 5<<20, yamlfile.Duration(7*time.Second)
	g := &guest{d: d, log: hclog.NewNullLogger()}
	if o := g.gateOptions(); o.HeldOutput != 3<<20 || o.HeldInput != 5<<20 || o.InputDelay != 7*time.Second {
		t.Errorf("%+v", o)
	}
}
