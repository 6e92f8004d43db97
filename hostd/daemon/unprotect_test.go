package daemon

import (
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// TestAnUnprotectMeetsARetry: the machine waits for its standby, which has just been
// reached, when an operator ends the waiting. It is not protected again.
func TestAnUnprotectMeetsARetry(t *testing.T) {
	d := New(Options{Config: config.Config{Host: "a", StateDir: t.TempDir()}, Log: hclog.NewNullLogger()})
	g := d.newGuest(spec.Machine{Name: "m"})
	g.tasks.Wait() // nothing is saved, nor supervised
	var run sync.WaitGroup
	run.Go(g.run)
	defer run.Wait()
	defer d.end()
	g.state.SetRole(pair.Solo, 0)
	g.state.Want("b")
	g.post(pair.Started{Solo: true})
	if err := d.unprotect(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if err := g.protectWanted("b"); err == nil {
		t.Error("it is protected again")
	}
	if role, _ := g.state.Role(); role != pair.Solo || g.state.Wanted() != "" {
		t.Errorf("it is %s, and %q is wanted", role, g.state.Wanted())
	}
	if err := d.unprotect(t.Context(), g); err == nil {
		t.Error("there is nothing to end any more, and that is not said")
	}
}
