package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/logsink"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

func (a *app) serve() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "serve --config FILE", Short: "Run the daemon", Args: exactly(0),
		Long:    "Runs the daemon until SIGINT or SIGTERM. Its machines keep running after that, but\nsilently: without a daemon none of their packets reach the network.",
		Example: "  hostd serve --config /etc/stillpoint/hostd.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := config.Load(path)
			if err != nil {
				return err
			}
			return a.logged(conf.Log, func(log hclog.Logger) error { return a.Serve(c.Context(), conf, log) })
		},
	}
	c.Flags().StringVar(&path, "config", "/etc/stillpoint/hostd.yaml", "configuration file; docs/config.md describes it")
	c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

func (a *app) witness() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "witness --config FILE", Short: "Run a member of the arbiter, and no machines", Args: exactly(0),
		Long:    "Runs a member of the embedded arbiter until SIGINT or SIGTERM. It is the third beside\ntwo hosts, so that any one of the three may fail. It runs no machines and needs few\nresources.",
		Example: "  hostd witness --config /etc/stillpoint/witness.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := config.LoadWitness(path)
			if err != nil {
				return err
			}
			return a.logged(conf.Log, func(log hclog.Logger) error { return a.Witness(c.Context(), conf, log) })
		},
	}
	c.Flags().StringVar(&path, "config", "/etc/stillpoint/witness.yaml", "configuration file; docs/config.md describes it")
	c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

// member is hidden: without its keeper, at the other end of its input, it ends.
func (a *app) member() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "member --config FILE", Short: "Run this host's member of the arbiter (internal)", Args: exactly(0), Hidden: true,
		Long: "Runs the member of the embedded arbiter for \"hostd serve\" and \"hostd witness\", which\nstart this command themselves. It ends when its standard input does. Its log is JSON.",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := config.LoadWitness(path)
			if err != nil {
				return err
			}
			conf.Log.Format = "json"
			return a.logged(conf.Log, func(log hclog.Logger) error { return a.Member(c.Context(), conf, log) })
		},
	}
	c.Flags().StringVar(&path, "config", "/etc/stillpoint/hostd.yaml", "the daemon's or the witness's configuration file")
	c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

func (a *app) supervise() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "supervise --config FILE", Short: "Watch over the machines while there is no daemon", Args: exactly(0),
		Long:    "Runs beside the daemon and outlives it. If the daemon dies and leaves a guest stopped\nin a checkpoint, the guest is resumed if the arbiter gives this host the voice, and\nended if another host has it. The daemon starts a supervisor if none is running.",
		Example: "  hostd supervise --config /etc/stillpoint/hostd.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := config.Load(path)
			if err != nil {
				return err
			}
			return a.logged(conf.Log, func(log hclog.Logger) error { return a.Supervise(c.Context(), conf, log) })
		},
	}
	c.Flags().StringVar(&path, "config", "/etc/stillpoint/hostd.yaml", "the daemon's configuration file")
	c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

// console is hidden: it reads descriptors which the daemon gives it.
func (a *app) console() *cobra.Command {
	limit := int64(16 << 20)
	c := &cobra.Command{
		Use: "console --limit BYTES FILE...", Short: "Write a machine's output to files (internal)", Args: atLeastOne, Hidden: true,
		Long: "Appends what QEMU prints to the first FILE, and what its guest prints to the second. The\nolder part of each is in FILE.1. The daemon starts this command with each QEMU, and it\nends with that QEMU.",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.logged(config.Default().Log, func(log hclog.Logger) error { return a.Console(args, limit, log) })
		},
	}
	c.Flags().Int64Var(&limit, "limit", limit, "bytes of a FILE and its older part together")
	return c
}

// leaveLimit is how long a process that ends waits for the reader of its log.
const leaveLimit = 2 * time.Second

// logged runs what machines depend on with a log that waits for nobody: not for the
// reader of a pipe, not for a disk. Its error is the log's last word.
func (a *app) logged(l config.Log, run func(log hclog.Logger) error) error {
	logger := func(w io.Writer) hclog.Logger {
		return hclog.New(&hclog.LoggerOptions{Name: "hostd", Level: hclog.LevelFromString(l.Level),
			JSONFormat: l.Format == "json", Output: w})
	}
	sink := logsink.New(a.Stderr, func(lost int) []byte {
		var b bytes.Buffer
		logger(&b).Error("the log was not read fast enough; lines are missing here", "lost", lost)
		return b.Bytes()
	})
	defer sink.Close(leaveLimit)
	err := run(logger(sink))
	if err != nil {
		fmt.Fprintln(sink, "hostd:", err)
		return toldError{err}
	}
	return nil
}

func (a *app) vm() *cobra.Command {
	c := &cobra.Command{Use: "vm", Short: "Start, stop and list machines", Args: commandsOnly,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.vmStart(), a.vmStop(), a.vmList())
	return c
}

func (a *app) vmStart() *cobra.Command {
	return &cobra.Command{
		Use: "start FILE", Short: "Start a machine from its specification", Args: exactly(1),
		Long:    "Starts QEMU and connects the machine's ports to the network. docs/machine.md\ndescribes the file.",
		Example: "  hostd vm start nat.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read the machine's specification: %w", err)
			}
			return a.machine(c, func(ctx context.Context, h control.HostdClient) (*control.Machine, error) {
				return h.StartMachine(ctx, &control.StartMachineRequest{Spec: spec, File: args[0]})
			})
		},
	}
}

func (a *app) vmStop() *cobra.Command {
	return &cobra.Command{
		Use: "stop NAME", Short: "Stop a machine", Args: exactly(1), ValidArgsFunction: a.machineNames,
		Long: "Ends QEMU at once, as if the power were cut. Protection of the machine ends first, so\nthe standby does not take over.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.machine(c, func(ctx context.Context, h control.HostdClient) (*control.Machine, error) {
				return h.StopMachine(ctx, &control.MachineRequest{Name: args[0]})
			})
		},
	}
}

func (a *app) vmList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the machines on this host", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), func(ctx context.Context, h control.HostdClient) error {
				r, err := h.ListMachines(ctx, &control.ListMachinesRequest{})
				if err != nil {
					return err
				}
				return a.print(r, func(w io.Writer) { table(w, r.Machines) })
			})
		},
	}
}

func (a *app) protect() *cobra.Command {
	var standby string
	var noWait bool
	c := &cobra.Command{
		Use: "protect NAME --standby PEER", Short: "Protect a machine with a standby host", Args: exactly(1), ValidArgsFunction: a.machineNames,
		Long:    "Copies the running machine to the standby and keeps the copy up to date with\ncheckpoints. From then on, output leaves only once the standby holds the state that\nsent it.",
		Example: "  hostd protect nat --standby b",
		RunE: func(c *cobra.Command, args []string) error {
			if standby == "" {
				return usageError{errors.New("--standby is missing: name one of the configured peers")}
			}
			return a.machine(c, func(ctx context.Context, h control.HostdClient) (*control.Machine, error) {
				return h.Protect(ctx, &control.ProtectRequest{Name: args[0], Standby: standby, Wait: !noWait})
			})
		},
	}
	c.Flags().StringVar(&standby, "standby", "", "the peer that becomes the standby")
	c.Flags().BoolVar(&noWait, "no-wait", false, "return at once, without waiting until the machine is protected")
	return c
}

func (a *app) unprotect() *cobra.Command {
	return a.byName("unprotect NAME", "Stop protecting a machine, which keeps running here", "",
		func(h control.HostdClient) machineCall { return h.Unprotect })
}

func (a *app) switchover() *cobra.Command {
	return a.byName("switchover NAME", "Move a protected machine to its standby",
		"Takes a last checkpoint, from which the standby continues. No packet is lost.\nRun it on the host where the machine runs.",
		func(h control.HostdClient) machineCall { return h.Switchover })
}

func (a *app) takeover() *cobra.Command {
	return a.byName("takeover NAME", "Run a machine on this host, its standby",
		"Runs the machine here from the last committed epoch, even if its primary is alive: the\narbiter decides. A primary that is alive is fenced.",
		func(h control.HostdClient) machineCall { return h.Takeover })
}

func (a *app) scrub() *cobra.Command {
	return &cobra.Command{
		Use: "scrub NAME", Short: "Check a standby's memory against what its primary sent", Args: exactly(1), ValidArgsFunction: a.machineNames,
		Long:    "Reads all memory that this standby holds for the machine, which stays protected. If a\npage differs from what the primary sent, the replica is dropped, the machine is\nprotected again, and the exit code is 1. Run it on the standby.",
		Example: "  hostd scrub nat",
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), func(ctx context.Context, h control.HostdClient) error {
				r, err := h.Scrub(ctx, &control.MachineRequest{Name: args[0]})
				if err != nil {
					return err
				}
				if err := a.print(r, func(w io.Writer) { scrubText(w, r) }); err != nil || r.WrongPages == 0 {
					return err
				}
				return fmt.Errorf("the replica of machine %s was damaged and has been dropped; the machine is protected again automatically: check this host's memory", r.Name)
			})
		},
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME]", Short: "Show machine state and what protection costs", Args: atMost(1), ValidArgsFunction: a.machineNames,
		RunE: func(c *cobra.Command, args []string) error {
			r := &control.StatusRequest{}
			if len(args) == 1 {
				r.Name = args[0]
			}
			return a.call(c.Context(), func(ctx context.Context, h control.HostdClient) error {
				s, err := h.Status(ctx, r)
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) { statusText(w, s) })
			})
		},
	}
}

func (a *app) events() *cobra.Command {
	var checkpoints bool
	c := &cobra.Command{
		Use: "events [NAME]", Short: "Follow events", Args: atMost(1), ValidArgsFunction: a.machineNames,
		Long: "Prints the events that the daemon remembers, then each new one, until interrupted.",
		RunE: func(c *cobra.Command, args []string) error {
			r := &control.EventsRequest{Checkpoints: checkpoints}
			if len(args) == 1 {
				r.Name = args[0]
			}
			return a.call(c.Context(), func(ctx context.Context, h control.HostdClient) error {
				return a.follow(ctx, h, r)
			})
		},
	}
	c.Flags().BoolVar(&checkpoints, "checkpoints", false, "print every checkpoint too")
	return c
}

func (a *app) follow(ctx context.Context, h control.HostdClient, r *control.EventsRequest) error {
	stream, err := h.Events(ctx, r)
	if err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.print(e, func(w io.Writer) { eventText(w, e) }); err != nil {
			return err
		}
	}
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return json.NewEncoder(a.Stdout).Encode(map[string]string{"version": a.Version})
			}
			_, err := fmt.Fprintln(a.Stdout, "hostd", a.Version)
			return err
		},
	}
}
