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
		Long:    "Runs the daemon until it gets SIGINT or SIGTERM. Its machines keep running then,\nbut silently: without a daemon nothing of theirs reaches the network.",
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
		Use: "witness --config FILE", Short: "Take part in the arbiter without running machines", Args: exactly(0),
		Long:    "Runs a member of the embedded arbiter until it gets SIGINT or SIGTERM: the third\none beside two hosts, so that one of the three may fail. It runs no machines and\nneeds little.",
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
		Use: "member --config FILE", Short: "Be the process of this host's member of the arbiter", Args: exactly(0), Hidden: true,
		Long: "Runs the member of the embedded arbiter for \"hostd serve\" and \"hostd witness\",\nwhich start this command themselves, and ends with its input. Its log is JSON.",
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
		Long:    "Runs beside the daemon and outlives it. A guest that the daemon left stopped in a\ncheckpoint is freed when the arbiter gives this host the voice, and ended when\nanother host has it. The daemon starts one where none runs.",
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
		Use: "console --limit BYTES FILE...", Short: "Keep what a machine prints in files", Args: atLeastOne, Hidden: true,
		Long: "Appends what QEMU prints to the first FILE, and what its guest prints to the second. The\nolder part of each is in FILE.1. The daemon starts one with each QEMU; it ends with that\nQEMU.",
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
		logger(&b).Error("the log was not read fast enough; lines that belong here are lost", "lost", lost)
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
		Use: "start FILE", Short: "Start the machine that a file describes", Args: exactly(1),
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
		Use: "stop NAME", Short: "End a machine", Args: exactly(1), ValidArgsFunction: a.machineNames,
		Long: "Ends QEMU at once, as if its power were cut. A protected machine gives up its\nprotection first, so the standby does not take over.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.machine(c, func(ctx context.Context, h control.HostdClient) (*control.Machine, error) {
				return h.StopMachine(ctx, &control.MachineRequest{Name: args[0]})
			})
		},
	}
}

func (a *app) vmList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the machines of this host", Args: exactly(0),
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
		Use: "protect NAME --standby PEER", Short: "Protect a machine by a standby host", Args: exactly(1), ValidArgsFunction: a.machineNames,
		Long:    "Copies the running machine to the standby and keeps the copy up to date with\ncheckpoints. From then on output leaves only when the standby holds the state\nthat sent it.",
		Example: "  hostd protect nat --standby b",
		RunE: func(c *cobra.Command, args []string) error {
			if standby == "" {
				return usageError{errors.New("--standby is missing: name a peer of the configuration")}
			}
			return a.machine(c, func(ctx context.Context, h control.HostdClient) (*control.Machine, error) {
				return h.Protect(ctx, &control.ProtectRequest{Name: args[0], Standby: standby, Wait: !noWait})
			})
		},
	}
	c.Flags().StringVar(&standby, "standby", "", "the peer that becomes the standby")
	c.Flags().BoolVar(&noWait, "no-wait", false, "return at once instead of when the machine is protected")
	return c
}

func (a *app) unprotect() *cobra.Command {
	return a.byName("unprotect NAME", "End a machine's protection; it runs on here alone", "",
		func(h control.HostdClient) machineCall { return h.Unprotect })
}

func (a *app) switchover() *cobra.Command {
	return a.byName("switchover NAME", "Move a protected machine to its standby",
		"Takes a last checkpoint and lets the standby run on from it. No packet is lost.\nCall it on the host where the machine runs.",
		func(h control.HostdClient) machineCall { return h.Switchover })
}

func (a *app) takeover() *cobra.Command {
	return a.byName("takeover NAME", "Make this standby run the machine",
		"Runs the machine here from the last committed epoch, although its primary may\nlive: the arbiter decides. The primary, if it lives, is fenced.",
		func(h control.HostdClient) machineCall { return h.Takeover })
}

func (a *app) scrub() *cobra.Command {
	return &cobra.Command{
		Use: "scrub NAME", Short: "Compare a standby's memory with what its primary has sent", Args: exactly(1), ValidArgsFunction: a.machineNames,
		Long:    "Reads all of the memory that this standby keeps, while the protection goes on. If a\npage is not what the primary has sent, the replica is dropped, the machine is\nprotected anew, and the exit code is 1. Call it on the standby.",
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
				return fmt.Errorf("the replica of machine %s was damaged and is dropped; the machine is protected anew by itself: check this host's memory", r.Name)
			})
		},
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME]", Short: "Tell how machines are, and what protection costs", Args: atMost(1), ValidArgsFunction: a.machineNames,
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
		Use: "events [NAME]", Short: "Follow what happens", Args: atMost(1), ValidArgsFunction: a.machineNames,
		Long: "Prints what the daemon remembers and then every event, until interrupted.",
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
