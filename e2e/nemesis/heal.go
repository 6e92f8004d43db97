package nemesis

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
)

// heal undoes everything that a round may have broken.
func (n *nemesis) heal(ctx context.Context) error {
	errs := []error{n.Link.Restore(), n.Arbiter.Restore()}
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
	return nil
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
