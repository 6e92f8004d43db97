package main

import (
	"context"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
)

// followed is the arbiter of a process that outlives daemons: the one of the
// daemon that came last, which has read the configuration file as it is then.
type followed struct {
	file string
	log  hclog.Logger

	mu    sync.Mutex
	now   *arbitration
	owned sync.WaitGroup
}

// follow the arbiter of a configuration and what its file says later.
func follow(c config.Config, log hclog.Logger) (*followed, error) {
	f := &followed{file: c.File, log: log}
	var err error
	f.now, err = f.open(c)
	return f, err
}

func (f *followed) open(c config.Config) (*arbitration, error) {
	own, err := identity(c, f.log)
	if err != nil {
		return nil, err
	}
	return openArbiter(c, own, f.log)
}

// reread the configuration: a daemon has come. One that cannot be read is none
// of a daemon's; what was known before holds then.
func (f *followed) reread() {
	c, err := config.Load(f.file)
	var next *arbitration
	if err == nil {
		next, err = f.open(c)
	}
	if err != nil {
		f.log.Error("the configuration cannot be followed; the arbiter as it was known is asked on", "file", f.file, "error", err)
		return
	}
	f.mu.Lock()
	before := f.now
	f.now = next
	f.mu.Unlock()
	f.owned.Go(func() { _ = before.close() }) // a file system that hangs holds it up
}

func (f *followed) current() *arbitration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *followed) close() error {
	defer f.owned.Wait()
	return f.current().close()
}

func (f *followed) Current(ctx context.Context, machine string) (arbiter.Record, error) {
	return f.current().Current(ctx, machine)
}

func (f *followed) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	return f.current().TestAndSet(ctx, expect, next)
}
