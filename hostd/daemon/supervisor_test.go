package daemon

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
)

// TestOneSupervisorIsStarted, however long it takes until it serves; another one only
// when it has ended.
func TestOneSupervisorIsStarted(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	started := make(chan *exec.Cmd, 16)
	d := &Daemon{ctx: ctx, log: hclog.NewNullLogger(), config: config.Config{RunDir: filepath.Join(t.TempDir(), "run")}}
	d.supervisor.start = func() (int, error) {
		slow := exec.Command("sleep", "1h")
		if err := slow.Start(); err != nil {
			return 0, err
		}
		started <- slow
		return slow.Process.Pid, nil
	}
	d.tasks.Go(d.keepSupervisor)
	t.Cleanup(func() {
		end()
		d.tasks.Wait()
		for len(started) > 0 {
			kill(t, <-started)
		}
	})
	for range 2 {
		one := <-started
		select {
		case another := <-started:
			t.Errorf("process %d was started beside %d", another.Process.Pid, one.Process.Pid)
			kill(t, another)
		case <-time.After(4 * supervisorRetry): // it looks again meanwhile
		}
		if err := one.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		next := <-started // although nobody has waited for the last one yet
		started <- next
		one.Wait()
	}
}

func kill(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Error(err)
	}
	c.Wait()
}
