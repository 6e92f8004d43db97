package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ReplicaPort is the TCP port at which a host takes epochs from its peer.
const ReplicaPort = 7600

// Host is one host: its namespace, its cables, its daemon and the daemon's
// machines. Its methods may be called concurrently.
type Host struct {
	Node
	Address string // on the link
	// Cables to the client's segment, the server's segment, the peers and,
	// with etcd, the arbiter's members; else Arb is nil.
	In, Out, Link, Arb *Cable
	// RAMDir holds its machines' RAM.
	RAMDir string
	// Config is written out at each Start. Change it only between two runs.
	Config Config

	number int // from 1; the last byte of its addresses
	faults atomic.Uint64
	events eventLog

	sessionMu sync.Mutex
	session   *session
}

func newHost(l *Lab, number int, space *Space) (*Host, error) {
	name := hostName(number)
	h := &Host{Address: linkAddress(number), RAMDir: filepath.Join(l.ramDir(), name), number: number}
	h.init(l, name, "hostd on host "+name, space)
	h.memory = append(h.memory, h.RAMDir)
	h.Config = defaultConfig(l, h)
	if err := h.makeDirectories(); err != nil {
		return nil, err
	}
	return h, h.mountState()
}

func hostName(number int) string { return string(rune('a' + number - 1)) }

func linkAddress(number int) string { return fmt.Sprintf("10.99.0.%d", number) }

// Socket is the path of the daemon's control socket.
func (h *Host) Socket() string { return filepath.Join(h.RunDir, "hostd.sock") }

// ConsoleFile is where the console of a machine goes on this host.
func (h *Host) ConsoleFile(machine string) string {
	return filepath.Join(h.StateDir, machine+".console")
}

// Start the daemon, with NAME=VALUE added to its environment, and wait until
// it answers.
func (h *Host) Start(ctx context.Context, env ...string) error {
	d, err := h.launch("serve", env, func(config string) error {
		os.Remove(h.Socket()) // a killed daemon leaves it
		return writeConfig(config, h.Name, h.Config)
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", h.title, err)
	}
	if err := d.await(ctx, h.answers); err != nil {
		return h.explain(fmt.Errorf("start %s: %w", h.title, err))
	}
	if err := h.attach(ctx); err != nil {
		return h.explain(fmt.Errorf("start %s: %w", h.title, err))
	}
	return nil
}

// answers fails unless somebody listens at the control socket.
func (h *Host) answers() error {
	conn, err := net.Dial("unix", h.Socket())
	if err != nil {
		return err
	}
	return conn.Close()
}

// Restart kills the daemon if it runs and starts it again.
func (h *Host) Restart(ctx context.Context, env ...string) error {
	if err := h.killIfRunning(); err != nil {
		return err
	}
	return h.Start(ctx, env...)
}

// PowerOn brings a host back with its disk as it was, and starts its daemon.
func (h *Host) PowerOn(ctx context.Context, env ...string) error {
	if err := h.powerUp(); err != nil {
		return err
	}
	return h.Start(ctx, env...)
}

// QEMU finds the process of a machine on this host, whether the daemon lives
// or not. It fails with os.ErrProcessDone when there is none.
func (h *Host) QEMU(machine string) (Process, error) {
	return h.find("QEMU of machine "+machine, func(args []string) bool { return names(args, machine) })
}

// names looks for "-name machine" in a command line.
func names(args []string, machine string) bool {
	for i := 1; i < len(args); i++ {
		name, _, _ := strings.Cut(args[i], ",")
		if args[i-1] == "-name" && name == machine {
			return true
		}
	}
	return false
}

// QEMUPid is the pid of a machine's QEMU.
func (h *Host) QEMUPid(machine string) (int, error) {
	p, err := h.QEMU(machine)
	return p.PID, err
}

// KillQEMU ends a machine's QEMU with SIGKILL. It returns when it is gone, and
// the time just before the signal.
func (h *Host) KillQEMU(machine string) (time.Time, error) { return killFound(h.QEMU(machine)) }

// Supervisor finds the process that the daemon started to watch over its
// machines ("hostd supervise"), whether the daemon lives or not. It fails with
// os.ErrProcessDone when there is none.
func (h *Host) Supervisor() (Process, error) {
	return h.find("the supervisor", func(args []string) bool {
		return len(args) > 1 && slices.Contains(args[1:], "supervise")
	})
}

// KillSupervisor ends the supervisor with SIGKILL. It returns when it is gone,
// and the time just before the signal.
func (h *Host) KillSupervisor() (time.Time, error) { return killFound(h.Supervisor()) }

// end is the host's end for good.
func (h *Host) end() error {
	_, err := h.KillAll()
	h.detach()
	return err
}
