package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

const (
	witnessName   = "w"
	witnessNumber = 100
)

// Witness is a host without machines: a member of the arbiter's cluster, so
// that the hosts' votes are never even. Its methods may be called
// concurrently.
type Witness struct {
	Node
	Arb *Cable
	// Config is written out at each Start. Change it only between two runs.
	Config WitnessConfig
}

func newWitness(l *Lab, space *Space) (*Witness, error) {
	w := &Witness{}
	w.init(l, witnessName, "the witness", space)
	w.Config = defaultWitnessConfig(l, w)
	return w, w.makeDirectories()
}

// Start the witness, with NAME=VALUE added to its environment, and wait until
// it listens for the other members. It may still lack a quorum then.
func (w *Witness) Start(ctx context.Context, env ...string) error {
	d, err := w.launch("witness", env, func(config string) error {
		return writeConfig(config, w.Name, w.Config)
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", w.title, err)
	}
	if err := d.await(ctx, func() error { return w.listens(d) }); err != nil {
		return w.explain(fmt.Errorf("start %s: %w", w.title, err))
	}
	return nil
}

// listens fails unless the witness listens for its peers. It looks at the
// kernel's table: a call that ends at once would be an error in its log.
func (w *Witness) listens(d *daemon) error {
	embedded := w.Config.Arbiter.Embedded
	if embedded == nil {
		return errors.New("its configuration has no embedded arbiter")
	}
	address, err := netip.ParseAddrPort(embedded.Peer)
	if err != nil {
		return fmt.Errorf("the arbiter's peer address %q: %w", embedded.Peer, err)
	}
	return listening(d.process.PID, address)
}

// listening fails unless there is a TCP socket that listens at an IPv4 address
// in the namespace of a process, by proc_pid_net(5).
func listening(pid int, address netip.AddrPort) error {
	f, err := os.Open(procPath(pid, "net/tcp"))
	if err != nil {
		return err
	}
	defer f.Close()
	const local, state, listen = 1, 3, "0A"
	ip := address.Addr().As4()
	want := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), address.Port())
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > state && fields[local] == want && fields[state] == listen {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("nobody listens at %v", address), lines.Err())
}

// Restart kills the witness if it runs and starts it again.
func (w *Witness) Restart(ctx context.Context, env ...string) error {
	if err := w.killIfRunning(); err != nil {
		return err
	}
	return w.Start(ctx, env...)
}

// PowerOn brings the witness back with its disk as it was, and starts it.
func (w *Witness) PowerOn(ctx context.Context, env ...string) error {
	if err := w.powerUp(); err != nil {
		return err
	}
	return w.Start(ctx, env...)
}

// end is the witness's end for good.
func (w *Witness) end() error {
	_, err := w.KillAll()
	return err
}
