package daemon

import (
	"context"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// Scrub compares the memory that a standby keeps with what its primary has sent.
func (d *Daemon) Scrub(ctx context.Context, name string) (found status.Scrub, err error) {
	g, err := d.known(name)
	if err != nil {
		return found, err
	}
	s := g.asStandby.Load()
	if role, _ := g.state.Role(); s == nil || role != pair.Standby {
		where := ""
		if peer := g.state.Peer(); peer != "" {
			where = fmt.Sprintf("; its replica is on host %s: scrub it there", peer)
		}
		return found, api.Refuse(api.NotNow, "machine %s is %s on host %s: only a standby can be scrubbed%s", g.name, role, d.config.Host, where)
	}
	if found, err = s.Scrub(ctx); err != nil {
		return found, api.Refuse(api.NotNow, "machine %s: %v", g.name, err)
	}
	return found, nil
}
