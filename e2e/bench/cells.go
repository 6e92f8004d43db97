package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// measureCell has one guest checkpointed by all three, in turns.
func (o options) measureCell(ctx context.Context, c *cell) (err error) {
	s, err := scene.New(ctx, scene.Options{Build: o.build, QEMU: o.qemu})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := o.stage(ctx, s, c); err != nil {
		return s.Explain(err)
	}
	steps := []func(context.Context, *scene.Scene, *cell) error{o.pair, o.floor, o.stillFloor, o.stock}
	for range o.rounds {
		for _, step := range steps {
			if err := step(ctx, s, c); err != nil {
				return s.Explain(err)
			}
		}
		slices.Reverse(steps)
	}
	return nil
}

func (o options) stage(ctx context.Context, s *scene.Scene, c *cell) error {
	if err := errors.Join(s.A.Start(ctx), s.B.Start(ctx)); err != nil {
		return err
	}
	m := s.NAT()
	m.Memory = c.Memory
	m.Append += " stillpoint.dirty=" + strconv.Itoa(c.Rate)
	m.Protection.Checkpoint, m.Protection.Interval = "periodic", o.interval.String()
	return s.Boot(ctx, m)
}

// warm is how many checkpoints of each go before those that count: caches fill,
// and the first ones carry what the first copy left.
const warm = 5

// pair protects the machine, takes its share of checkpoints and ends it.
func (o options) pair(ctx context.Context, s *scene.Scene, c *cell) error {
	mark := s.A.EventMark()
	if _, err := s.A.Protect(ctx, scene.Machine, s.B.Name); err != nil {
		return err
	}
	if err := reached(ctx, s, mark, warm); err != nil {
		return err
	}
	begin, err := read(s.A, s.B)
	if err != nil {
		return err
	}
	first := s.A.EventMark()
	if err := reached(ctx, s, mark, warm+o.checkpoints); err != nil {
		return err
	}
	end, err := read(s.A, s.B)
	if err != nil {
		return err
	}
	spent := costSince(begin, end, pausesOf(s.A.Events()[first:]))
	if _, err := s.A.Unprotect(ctx, scene.Machine); err != nil {
		return err
	}
	if spent.Copy, err = copyOnce(spent.Dirty); err != nil {
		return err
	}
	all := pausesOf(s.A.Events()[mark:])
	if len(all) < warm+o.checkpoints {
		return fmt.Errorf("%d checkpoints told of %d", len(all), warm+o.checkpoints)
	}
	c.Pair, c.Cost = append(c.Pair, all[warm:][:o.checkpoints]), append(c.Cost, spent)
	return nil
}

// reached waits for a checkpoint by its event: asking for the status would cost the
// daemon more than its checkpoints.
func reached(ctx context.Context, s *scene.Scene, mark, checkpoints int) error {
	_, err := s.A.WaitEvent(ctx, mark, func(e lab.Event) bool {
		return e.Checkpoint != nil && e.Epoch > uint64(checkpoints)
	})
	return err
}

// pausesOf the checkpoints that events tell of.
func pausesOf(events []lab.Event) (all []pause) {
	us := func(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }
	for _, e := range events {
		if k := e.Checkpoint; k != nil && k.PauseUs > 0 {
			all = append(all, pause{Stopped: us(k.PauseUs), Reply: us(k.TotalUs - k.QuiesceUs), Pages: int(k.Pages),
				parts: parts{Quiesce: us(k.QuiesceUs), Stop: us(k.StopUs), Copy: us(k.CopyUs), Waited: us(k.TotalUs), Commit: us(k.CommitUs),
					Dirty: k.Bytes + k.ZeroPages*pageSize, Wire: k.WireBytes}})
		}
	}
	return all
}

const pageSize = 4096

func (o options) floor(ctx context.Context, s *scene.Scene, c *cell) error {
	return o.toFloor(ctx, s, false, &c.Floor)
}

func (o options) stillFloor(ctx context.Context, s *scene.Scene, c *cell) error {
	return o.toFloor(ctx, s, true, &c.StillFloor)
}

func (o options) toFloor(ctx context.Context, s *scene.Scene, still bool, rounds *[][]pause) error {
	return o.without(ctx, s, func() error {
		round, err := runFloor(ctx, s.A.RunDir, scene.Machine, still, warm+o.checkpoints, o.interval)
		if err == nil {
			*rounds = append(*rounds, round[warm:])
		}
		return err
	})
}

func (o options) stock(ctx context.Context, s *scene.Scene, c *cell) error {
	return o.without(ctx, s, func() error {
		round, err := runStock(ctx, s.A, s.B, scene.Machine, warm+o.checkpoints, o.interval)
		if err == nil {
			c.Stock = append(c.Stock, round[warm:])
		}
		return err
	})
}

// without takes the daemon of host A away for a measurement. Its QEMU stays.
func (o options) without(ctx context.Context, s *scene.Scene, measure func() error) error {
	if err := silence(s.A); err != nil {
		return err
	}
	if err := measure(); err != nil {
		return err
	}
	if err := s.A.Start(ctx); err != nil {
		return err
	}
	_, err := s.A.WaitRole(ctx, scene.Machine, "unprotected")
	return err
}
