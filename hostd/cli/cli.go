// Package cli is hostd's command line. Commands that need a daemon talk to this
// host's over its control socket, or to another host's over mutual TLS.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// Exit codes.
const (
	ExitOK = iota
	ExitFailure
	ExitUsage
)

const defaultSocket = "/run/stillpoint/hostd.sock"

// Options of the command line.
type Options struct {
	Version        string
	Stdout, Stderr io.Writer
	// Serve runs the daemon until the context ends.
	Serve func(ctx context.Context, c config.Config, log hclog.Logger) error
	// Witness takes part in the arbiter, Supervise holds what must outlive the
	// daemon; both until the context ends. Member is one life of the process in
	// which Serve and Witness take part.
	Witness   func(ctx context.Context, c config.Config, log hclog.Logger) error
	Member    func(ctx context.Context, c config.Config, log hclog.Logger) error
	Supervise func(ctx context.Context, c config.Config, log hclog.Logger) error
	// Console keeps what a machine prints in files, each of at most limit bytes with its
	// older part.
	Console func(paths []string, limit int64, log hclog.Logger) error
	// Now is the present time; nil: the system's.
	Now func() time.Time
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

// toldError has been printed.
type toldError struct{ error }

// Run executes one command line and returns the exit code.
func Run(ctx context.Context, args []string, o Options) int {
	root := newRoot(o)
	root.SetArgs(args)
	root.SetOut(o.Stdout)
	root.SetErr(o.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var told toldError
	if errors.As(err, &told) {
		return ExitFailure
	}
	fmt.Fprintln(o.Stderr, "hostd:", err)
	var usage usageError
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailure
}

// app carries what the commands share.
type app struct {
	Options
	socket string
	remote remote
	root   *cobra.Command // its flags are all commands'
	json   bool
}

func newRoot(o Options) *cobra.Command {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &app{Options: o}
	root := &cobra.Command{
		Use:   "hostd",
		Short: "Keep virtual machines running when their host dies",
		Long: `hostd protects virtual machines that process packets: it takes checkpoints of
a running QEMU, ships them to a standby host, and lets no packet leave before
the standby holds the state that sent it. One daemon (hostd serve) runs on each
host; the other commands talk to it: over a local socket or, with --host, to another
host's daemon over mutual TLS.`,
		Example:       "  hostd status\n  hostd status --host 10.99.0.2:7600 --host-name b",
		SilenceErrors: true, SilenceUsage: true, Version: o.Version,
		Args: commandsOnly,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	socket := os.Getenv("STILLPOINT_SOCKET")
	if socket == "" {
		socket = defaultSocket
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", socket, "control socket of the daemon (environment: STILLPOINT_SOCKET)")
	a.root = root
	a.remote.flags(root)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON: one object, or one per line for events")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.serve(), a.witness(), a.member(), a.supervise(), a.console(), a.vm(), a.protect(), a.unprotect(), a.status(), a.events(), a.switchover(), a.takeover(), a.scrub(), a.pki(), a.version())
	return root
}

// call connects to the daemon for one command.
func (a *app) call(ctx context.Context, f func(context.Context, control.HostdClient) error) error {
	if err := a.remote.resolve(a.root.PersistentFlags().Changed); err != nil {
		return err
	}
	if a.remote.address != "" {
		return a.callRemote(ctx, f)
	}
	conn, err := grpc.NewClient("unix:"+a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), receiveLimit())
	if err != nil {
		return fmt.Errorf("talk to the daemon at %s: %w", a.socket, err)
	}
	defer conn.Close()
	return a.explain(f(ctx, control.NewHostdClient(conn)))
}

func (a *app) callRemote(ctx context.Context, f func(context.Context, control.HostdClient) error) error {
	conn, attempt, err := a.remote.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	err = f(ctx, control.NewHostdClient(conn))
	if s, ok := status.FromError(err); ok && err != nil {
		return a.remote.explain(s, attempt.failure())
	}
	return err
}

func receiveLimit() grpc.DialOption {
	return grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(control.MaxMessage))
}

// explain says what to do about a daemon that cannot be reached.
func (a *app) explain(err error) error {
	s, ok := status.FromError(err)
	if !ok || err == nil {
		return err
	}
	if s.Code() != codes.Unavailable {
		return errors.New(s.Message())
	}
	if _, err := os.Stat(a.socket); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no daemon at %s; start it with \"hostd serve\", or name its socket with --socket", a.socket)
	}
	if err := syscall.Access(a.socket, 2); errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("no permission to use %s: run as the user of the daemon", a.socket)
	}
	return fmt.Errorf("the daemon at %s does not answer (%s)", a.socket, s.Message())
}

// exactly checks the number of arguments as a usage error.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(c, args); err != nil {
			return usageError{fmt.Errorf("%w; see \"%s --help\"", err, c.CommandPath())}
		}
		return nil
	}
}

// commandsOnly is for commands that only have others below them: what is not
// one of those is a usage error.
func commandsOnly(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return usageError{fmt.Errorf("%w; see \"%s --help\"", err, c.CommandPath())}
	}
	return nil
}

func atMost(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := cobra.MaximumNArgs(n)(c, args); err != nil {
			return usageError{fmt.Errorf("%w; see \"%s --help\"", err, c.CommandPath())}
		}
		return nil
	}
}

// machineNames completes the first argument with the daemon's machines.
func (a *app) machineNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		_ = a.call(c.Context(), func(ctx context.Context, h control.HostdClient) error {
			r, err := h.ListMachines(ctx, &control.ListMachinesRequest{})
			for _, m := range r.GetMachines() {
				names = append(names, m.Name)
			}
			return err
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
