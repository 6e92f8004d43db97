// Command hostd is the daemon of a host, and the command line that talks to it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/cli"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// version is set by the linker in releases.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.Options{Version: versionText(), Stdout: os.Stdout, Stderr: os.Stderr, Serve: serve})
	stop()
	os.Exit(code)
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func serve(ctx context.Context, c config.Config, log hclog.Logger) error {
	records, err := arbiter.OpenDirectory(c.Arbiter.Directory)
	if err != nil {
		return fmt.Errorf("open the arbiter's directory: %w", err)
	}
	defer records.Close()
	faults, err := fault.FromEnvironment()
	if err != nil {
		return err
	}
	accel, err := daemon.Acceleration(c.QEMU.Accel)
	if err != nil {
		return err
	}
	return daemon.Serve(ctx, daemon.Options{Config: c, Arbiter: records, Faults: faults, Log: log, Version: versionText(), Accel: accel})
}
