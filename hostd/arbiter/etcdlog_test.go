package arbiter

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
)

// TestAMemberThatEndsRaisesNoAlarm: it ends as it should.
func TestAMemberThatEndsRaisesNoAlarm(t *testing.T) {
	t.Parallel()
	var log journal.Journal
	o := alone(t)
	o.Log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})
	m := start(t, o)
	ready(t, m)
	end(t, m)
	if log.Count("[WARN]")+log.Count("[ERROR]") > 0 || log.Count(endOfServing) == 0 {
		t.Errorf("the log of a member:\n%v", log.String())
	}
}

// TestLevelsOfEtcd: what it calls an error is seen, and what mends itself is not.
func TestLevelsOfEtcd(t *testing.T) {
	var log journal.Journal
	z := bridge(hclog.New(&hclog.LoggerOptions{Output: &log}))
	z.Info("a")
	z.Warn("b")
	z.Error("c")
	if log.Count("\n") != 1 || log.Count("[WARN]  c") != 1 {
		t.Errorf("%v", log.String())
	}
}
