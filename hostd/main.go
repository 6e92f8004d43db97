// Command hostd is the daemon of a host, and the command line that talks to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/grpclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/cli"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	"github.com/stillpoint-ft/stillpoint/hostd/supervise"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
)

// version is set by the linker in releases.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.Options{Version: versionText(), Stdout: os.Stdout, Stderr: os.Stderr,
		Serve: serve, Witness: witness, Member: liveAsMember, Supervise: superviseMachines, Console: keepConsole})
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

// endure keeps a process that machines depend on from being ended by a write that fails:
// to a file beyond a limit, or of its log, whose reader has gone. QEMU inherits it.
// What libraries print by themselves goes to the log too, which holds up nobody.
func endure(said hclog.Logger) {
	signal.Ignore(syscall.SIGXFSZ, syscall.SIGPIPE)
	log.SetOutput(said.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}))
	log.SetFlags(0)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard,
		said.Named("grpc").StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn})))
}

// identity proves who this host is. It is read anew when its files change.
func identity(c config.Config, log hclog.Logger) (*pki.Identity, error) {
	return pki.Load(pki.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key},
		pki.Options{Host: c.Host, Now: fault.Now, Log: log.Named("tls")})
}

// serve runs the daemon, with this host's member of the arbiter if it has one.
func serve(ctx context.Context, c config.Config, log hclog.Logger) error {
	endure(log)
	if err := dropPrivileges(needed(c)); err != nil {
		return err
	}
	user, err := qemuUser(c)
	if err != nil {
		return err
	}
	unix.Umask(0o077) // whatever is made from here on, by QEMU too, is for nobody else
	own, err := identity(c, log)
	if err != nil {
		return err
	}
	accel, err := machine.Acceleration(c.QEMU.Accel, user)
	if err != nil {
		return err
	}
	faults, err := fault.FromEnvironment()
	if err != nil {
		return err
	}
	records, err := openArbiter(c, own, log)
	if err != nil {
		return err
	}
	defer records.close()
	o := options(c, log)
	o.Identity, o.Arbiter, o.Faults, o.Accel, o.User = own, records, faults, accel, user
	m, err := keepMember(c, log)
	if err != nil {
		return err
	}
	if m != nil {
		defer m.Close()
		o.Member = m
	}
	return daemon.Serve(ctx, o)
}

// options of a daemon that are this program's own.
func options(c config.Config, log hclog.Logger) daemon.Options {
	return daemon.Options{Config: c, Log: log, Version: versionText(),
		Supervise: func() (int, error) { return spawnSupervisor(c) }, Keep: keeper, GoesDown: hostGoesDown}
}

// witness takes part in the arbiter and runs no machines.
func witness(ctx context.Context, c config.Config, log hclog.Logger) error {
	endure(log)
	if err := dropPrivileges(otherCapabilities); err != nil {
		return err
	}
	if _, err := identity(c, log); err != nil {
		return err
	}
	if err := machine.PrivateDirectory(c.StateDir); err != nil {
		return fmt.Errorf("use the state directory of the witness: %w", err)
	}
	m, err := keepMember(c, log)
	if err != nil {
		return err
	}
	defer m.Close()
	log.Info("witnessing", "host", c.Host)
	<-ctx.Done()
	return nil
}

const (
	superviseGrace   = 5 * time.Second
	superviseSilence = 2 * time.Second
)

// superviseMachines holds what must outlive the daemon.
func superviseMachines(ctx context.Context, c config.Config, log hclog.Logger) error {
	endure(log)
	if err := dropPrivileges(supervisorCapabilities); err != nil {
		return err
	}
	if c.QEMU.User != "" {
		if err := holds(supervisorCapabilities); err != nil {
			return fmt.Errorf("supervise machines of another user (qemu.user): %w", err)
		}
	}
	records, err := follow(c, log)
	if err != nil {
		return err
	}
	defer records.close()
	return supervise.Run(ctx, supervise.Options{Socket: c.SupervisorSocket(), Host: c.Host, Arbiter: rescuer{records, c.Host},
		Entered: records.reread, Grace: superviseGrace, Silence: superviseSilence, Log: log.Named("supervisor")})
}

// spawnSupervisor starts a supervisor that outlives the daemon. What it prints
// goes where the daemon's output goes.
func spawnSupervisor(c config.Config) (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	return supervise.Spawn(self, []string{"supervise", "--config", c.File}, os.Environ(), os.Stderr)
}

// rescuer is the arbiter as a supervisor sees it.
type rescuer struct {
	daemon.Arbiter
	host string
}

func (r rescuer) Current(ctx context.Context, machine string) (supervise.Record, error) {
	stands, err := r.Arbiter.Current(ctx, machine)
	return rescued(stands), err
}

func (r rescuer) ClaimSolo(ctx context.Context, machine string, expect uint64) (supervise.Record, bool, error) {
	won, err := voice.Claim{Machine: machine, Kind: voice.Solo, Host: r.host, Expect: expect}.Make(ctx, r.Arbiter)
	var lost *arbiter.LostError
	if errors.As(err, &lost) {
		return rescued(lost.Winner), false, nil
	}
	return rescued(won), err == nil, err
}

func rescued(r arbiter.Record) supervise.Record {
	return supervise.Record{Generation: r.Generation, Voice: r.Voice, Standby: r.Standby}
}
