package daemon

import "github.com/stillpoint-ft/stillpoint/hostd/status"

// Member is this host's member of the embedded arbiter, as far as the daemon
// has to do with it: it tells of it.
type Member interface {
	// Down says why the member does not run, and what to do; "" if it does.
	Down() string
	// Changed is sent to when Down answers otherwise.
	Changed() <-chan struct{}
}

// watchMember makes events of the member's end and return.
func (d *Daemon) watchMember() {
	if d.member == nil {
		return
	}
	for was := ""; ; {
		if now := d.member.Down(); now != was {
			was = now
			if now == "" {
				now = "the arbiter's member on this host runs again"
			}
			d.events.Publish(status.Event{Kind: status.Arbiter, Message: now})
		}
		select {
		case <-d.member.Changed():
		case <-d.ctx.Done():
			return
		}
	}
}

// hostWarnings are what is wrong here and is no machine's alone.
func (d *Daemon) hostWarnings() (w []string) {
	if d.member != nil {
		if down := d.member.Down(); down != "" {
			w = append(w, down)
		}
	}
	if down := d.arbiterDown.Load(); down != nil {
		w = append(w, *down)
	}
	return w
}
