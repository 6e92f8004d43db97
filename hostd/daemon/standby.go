package daemon

import (
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/standby"
)

func (g *guest) makeStandby(l *link.Link, primary string) error {
	s, err := standby.New(g.ctx, standby.Options{Machine: g.spec, Link: l, Replica: g.d.replicaOptions(g.spec, g.qemu.RAMFile()),
		InputLog: uint64(g.d.config.Limits.InputLog), Gate: g.gate, QEMU: g.qemu, State: g.state,
		Post: g.postWhile, Publish: g.publish, Faults: g.d.faults, Log: g.log.Named("standby")})
	if err != nil {
		return err
	}
	g.standby = s
	g.asStandby.Store(s)
	g.state.SetPeer(primary)
	return nil
}

func (g *guest) stopStandby() {
	s := g.standby
	if s == nil {
		return
	}
	g.standby = nil
	g.asStandby.Store(nil)
	s.Stop()
	g.state.SetPeer("")
}
