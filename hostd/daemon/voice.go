package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// Kinds of records that are not claims of a pair.
const (
	kindStarted = "started"
	kindStopped = "stopped"
)

// claimVoice makes this host the one that speaks for a machine which it is
// about to start.
func (d *Daemon) claimVoice(ctx context.Context, machine string) (generation uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, arbiterLimit)
	defer cancel()
	stands, err := d.arbiter.Current(ctx, machine)
	if err == nil {
		if stands.Voice != "" && stands.Voice != d.config.Host {
			return 0, fmt.Errorf("host %s speaks for machine %s (generation %d); stop it there first", stands.Voice, machine, stands.Generation)
		}
		stands, err = d.arbiter.TestAndSet(ctx, stands.Generation, arbiter.Record{Machine: machine,
			Generation: stands.Generation + 1, Voice: d.config.Host, Kind: kindStarted})
	}
	if err != nil {
		return 0, fmt.Errorf("claim the voice of machine %s: %w; nothing was started", machine, err)
	}
	return stands.Generation, nil
}

// releaseVoice records that nobody speaks for the machine any more, so that any
// host may start it. Where another host has the voice already, it is not ours
// to release.
func (d *Daemon) releaseVoice(ctx context.Context, machine string, generation uint64) error {
	ctx, cancel := context.WithTimeout(ctx, arbiterLimit)
	defer cancel()
	_, err := d.arbiter.TestAndSet(ctx, generation, arbiter.Record{Machine: machine, Generation: generation + 1, Kind: kindStopped})
	var lost *arbiter.LostError
	if errors.As(err, &lost) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release the voice of machine %s: %w", machine, err)
	}
	return nil
}

// giveUpVoice releases the voice of a machine that is being stopped, if this
// host has it.
func (d *Daemon) giveUpVoice(ctx context.Context, g *guest) error {
	role, generation := g.board.roleNow()
	if role == string(pair.Standby) || role == string(pair.Fenced) {
		return nil
	}
	return d.releaseVoice(ctx, g.name, generation)
}
