package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
)

// plays is set to the part of hostd that a process begins with.
const plays = "STILLPOINT_TEST_PLAYS"

// parts that machines depend on, as far as they get without a host.
var parts = map[string]func(context.Context, config.Config, hclog.Logger) error{
	"serve": serve, "witness": witness, "supervise": superviseMachines, "member": liveAsMember,
	"console": func(_ context.Context, _ config.Config, log hclog.Logger) error {
		return keepConsole([]string{""}, 0, log)
	},
}

// play a part, then write to a log that nobody reads any more, and beyond a limit.
func play(part string) {
	ctx, end := context.WithCancel(context.Background())
	end()
	c := config.Default()
	c.Arbiter.Embedded = &config.Embedded{}
	err := parts[part](ctx, c, hclog.NewNullLogger())
	for range 3 {
		fmt.Fprintln(os.Stderr, "who reads this?")
	}
	syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{})
	if f, err := os.CreateTemp("", ""); err == nil {
		f.Write([]byte("x"))
		os.Remove(f.Name())
	}
	fmt.Print("alive: ", err)
}

// TestALogThatNobodyReadsEndsNobody: nor does a file that may not grow.
func TestALogThatNobodyReadsEndsNobody(t *testing.T) {
	for part := range parts {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), plays+"="+part)
		cmd.Stderr = w
		out, err := cmd.Output()
		w.Close()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %v, %q", part, err, out)
		}
	}
}
