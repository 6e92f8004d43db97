package primary

import (
	"context"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// seed makes the first copy.
func (p *Session) seed() error {
	defer p.watchSeed()()
	o := capture.Options{Monitor: p.o.QEMU.Monitor(), Listen: p.o.QEMU.ListenCOLO, RAMFile: p.o.RAMFile, RAMBlock: p.o.RAMBlock,
		Delay: checkpointDelay, Limits: p.o.Stream, Gauge: &p.gauge, EpochLimit: uint64(p.o.Limits.Epoch), Log: p.log.Named("capture")}
	c, err := capture.Start(p.ctx, o)
	if err != nil {
		return err
	}
	p.capture = c
	context.AfterFunc(p.ctx, c.Close)
	still := &seedStill{Session: p}
	defer still.end()
	if err := c.Seed(p.ctx, seeder{p}, still.begin); err != nil {
		return fmt.Errorf("make the first copy: %w", err)
	}
	return nil
}

// stillLimit is how long packets wait for the end of the first copy. A guest that
// dirties memory as fast as it is shipped puts that end off, and may lose a packet
// that meets the stop.
const stillLimit = 2 * time.Second

// seedStill is the time in which the application rests before the guest stops for
// the end of the first copy.
type seedStill struct {
	*Session
	limit  *time.Timer // nil before it has begun
	opened chan struct{}
}

func (s *seedStill) begin() {
	s.opened = make(chan struct{})
	s.limit = time.AfterFunc(stillLimit, func() {
		defer close(s.opened)
		s.log.Debug("the first copy takes long; packets flow again")
		s.reopen(0)
	})
	s.o.Gate.HoldInput()
	// QEMU's stream is not read meanwhile, and may hold the guest up: not for long.
	limit := time.Duration(s.o.Machine.Protection.QuiesceDeadline)
	s.awaitTaken(limit)
	if s.o.Agent != nil {
		_, err := s.o.Agent.Quiesce(s.ctx, 0, limit)
		s.log.Debug("end of the first copy", "quiesced", err == nil)
	}
}

// end lets packets flow, and nothing of this does so later.
func (s *seedStill) end() {
	if s.limit != nil && !s.limit.Stop() {
		<-s.opened
	}
	s.reopen(0)
}

// seeder ships the first full copy as it is read.
type seeder struct{ *Session }

func (s seeder) Blocks(machine string, ram colo.Section, blocks []colo.Block) error {
	b := replica.Blocks{MachineName: machine, RAM: replica.Section(ram)}
	for _, x := range blocks {
		b.Blocks = append(b.Blocks, replica.Block{Name: x.Name, Size: x.Size})
	}
	s.beginSums(b.Blocks)
	return s.link.Send(replica.Header{Type: replica.TypeBlocks}, b.Append(nil))
}

func (s seeder) Pages(b *capture.Batch) error {
	if err := s.sum(b); err != nil {
		return err
	}
	return s.sendBatch(b)
}
