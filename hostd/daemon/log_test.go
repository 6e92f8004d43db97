package daemon_test

import (
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/logsink"
)

// TestALogThatIsNotReadStallsNobody: its pipe is full, and the machine is protected,
// taken over and protected again.
func TestALogThatIsNotReadStallsNobody(t *testing.T) {
	a, b := pairOfHosts(t)
	for _, h := range []*host{a, b} {
		r, w := io.Pipe() // takes nothing while nobody reads
		sink := logsink.New(w, func(int) []byte { return nil })
		t.Cleanup(func() {
			r.Close()
			sink.Close(patience)
		})
		log := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: sink})
		for range 40 { // more than waits for a reader
			log.Error("nobody reads this", "it", strings.Repeat("x", 50<<10))
		}
		h.adjust = func(o *daemon.Options) { o.Log = log }
		h.restart(func() {})
	}
	a.mustProtect("m", "")
	if err := b.takeover("m"); err != nil {
		t.Fatal(err)
	}
	b.await("the pair the other way round", func() bool { return b.machine("m").Role == "protected" })
}
