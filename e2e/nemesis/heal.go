package nemesis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
)

// heal undoes everything that a round may have broken.
func (n *nemesis) heal(ctx context.Context) error {
	errs := []error{n.Link.Restore(), n.Arbiter.Restore(), n.giveMonitorBack()}
	for _, h := range n.Hosts {
		errs = append(errs, h.ContAll(), h.FreeState())
		h.Skew(0)
	}
	errs = append(errs, n.Witness.ContAll())
	for _, h := range n.Hosts {
		errs = append(errs, n.revive(ctx, h))
	}
	if _, err := n.Witness.Daemon(); errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, n.Witness.Start(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	if err := n.replaceEmptied(ctx); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	return nil
}

// emptied is a member of the arbiter without its database. It comes back only by an
// operator's replacing it.
type emptied struct {
	since   int64 // of its daemon's log
	replace func(ctx context.Context, since int64) error
}

// empty a member of the arbiter. A round has one at most: two emptied members of
// three are more than the arbiter survives.
func (n *nemesis) empty(do func() (int64, error), replace func(context.Context, int64) error) error {
	since, err := do()
	if err == nil {
		n.emptied = append(n.emptied, emptied{since, replace})
	}
	return err
}

func (n *nemesis) replaceEmptied(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.Pace.Limit(backLimit))
	defer cancel()
	var errs []error
	for _, e := range n.emptied {
		errs = append(errs, e.replace(ctx, e.since))
	}
	n.emptied = nil
	return errors.Join(errs...)
}

// takeMonitor of the machine's QEMU, so that no daemon gets a connection.
func (n *nemesis) takeMonitor(h *lab.Host) error {
	path := filepath.Join(h.RunDir, scene.Machine+machine.MonitorSuffix)
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take the monitor of the QEMU on host %s: %w", h.Name, err)
		}
		n.taken = append(n.taken, c)
	}
}

func (n *nemesis) giveMonitorBack() error {
	var errs []error
	for _, c := range n.taken {
		errs = append(errs, c.Close())
	}
	n.taken = nil
	return errors.Join(errs...)
}

// revive a host whose daemon is dead.
func (n *nemesis) revive(ctx context.Context, h *lab.Host) error {
	_, err := h.Daemon()
	switch {
	case n.dark[h.Name]:
		delete(n.dark, h.Name)
		return h.PowerOn(ctx, n.faults[h.Name].Env()...)
	case errors.Is(err, os.ErrProcessDone):
		return h.Start(ctx, n.faults[h.Name].Env()...)
	}
	return err
}
