package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/quiesce"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// restLimit is a machine's quiesce-deadline by default.
const restLimit = 20 * time.Millisecond

// floor is the peer that keeps nothing.
type floor struct {
	monitor *qmp.Client
	events  *qmp.Subscription
	conn    *net.UnixConn
	reader  *colo.Reader
	device  []byte
	pages   int
	page    [colo.PageSize]byte
	agent   *quiesce.Session // nil: the guest is stopped as it is
	epoch   uint64
}

// nothing is its sink.
func (f *floor) Blocks([]colo.Block) error { return nil }

func (f *floor) Page(int, uint64) ([]byte, error) {
	f.pages++
	return f.page[:], nil
}

func (f *floor) Zero(int, uint64) error {
	f.pages++
	return nil
}

// runFloor takes checkpoints of the QEMU in a run directory, whose daemon must
// not be there, and lets it go again. Where still is set the guest's application
// comes to rest before each, as for a checkpoint of Stillpoint.
func runFloor(ctx context.Context, runDir, machine string, still bool, checkpoints int, interval time.Duration) (pauses []pause, err error) {
	f := &floor{device: make([]byte, 0, 1<<20)}
	if still {
		defer f.meetAgent(ctx, filepath.Join(runDir, machine+".agent"))()
	}
	if f.monitor, err = qmp.Dial(ctx, filepath.Join(runDir, machine+".qmp"), nil); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.monitor.Close()) }()
	f.events = f.monitor.Events()
	defer f.events.Close()
	if err := f.connect(ctx, filepath.Join(runDir, "floor.colo")); err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.conn.Close() })
	defer stop()
	pauses, err = f.checkpoints(ctx, checkpoints, interval)
	f.conn.Close()
	if err := errors.Join(err, f.leave(ctx)); err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	return pauses, nil
}

// meetAgent begins a session with the guest's agent.
func (f *floor) meetAgent(ctx context.Context, socket string) (end func()) {
	f.agent = quiesce.New(hclog.NewNullLogger(), quiesce.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}})
	ctx, cancel := context.WithCancel(ctx)
	var ran sync.WaitGroup
	ran.Go(func() { f.agent.Run(ctx) })
	return func() { cancel(); ran.Wait() }
}

func (f *floor) connect(ctx context.Context, socket string) error {
	os.Remove(socket)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := f.monitor.SetCapabilities(ctx, map[string]bool{"x-colo": true, "events": true, "x-ignore-shared": false}); err != nil {
		return err
	}
	if err := f.monitor.SetParameters(ctx, qmp.MigrationParameters{CheckpointDelay: qmp.Millis(time.Millisecond),
		MaxBandwidth: qmp.Bytes(100 << 30), DowntimeLimit: qmp.Millis(2 * time.Second)}); err != nil {
		return err
	}
	if err := f.monitor.Migrate(ctx, "unix:"+socket); err != nil {
		return err
	}
	if f.conn, err = listener.AcceptUnix(); err != nil {
		return err
	}
	f.reader = colo.NewReader(f.conn, colo.DefaultLimits())
	return nil
}

func (f *floor) checkpoints(ctx context.Context, n int, interval time.Duration) ([]pause, error) {
	if err := f.seed(ctx); err != nil {
		return nil, err
	}
	var all []pause
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for range n {
		if err := f.reader.Expect(colo.CheckpointRequest); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		p, err := f.checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// seed reads the first copy and whatever ends it.
func (f *floor) seed(ctx context.Context) error {
	if _, err := f.reader.Header(); err != nil {
		return err
	}
	if err := f.reader.Initial(f); err != nil {
		return err
	}
	if err := f.enterCOLO(ctx); err != nil {
		return err
	}
	f.events.Drain()
	f.reader.Reset(f.conn)
	if err := f.send(colo.CheckpointReady); err != nil {
		return err
	}
	_, _, err := f.awaitResume(ctx)
	return err
}

// enterCOLO drops what is readable until QEMU says that it is in COLO.
func (f *floor) enterCOLO(ctx context.Context) error {
	raw, err := f.conn.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	for ctx.Err() == nil {
		info, err := f.monitor.QueryMigrate(ctx)
		if err != nil {
			return err
		}
		for n := 1; n > 0; {
			raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), b) })
		}
		if info.Status == qmp.MigrationCOLO {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}

func (f *floor) checkpoint(ctx context.Context) (pause, error) {
	f.events.Drain()
	f.pages = 0
	f.epoch++
	if f.agent != nil {
		_, _ = f.agent.Quiesce(ctx, f.epoch, restLimit) // one that is late is stopped as it is, as by the daemon
		defer func() { f.agent.Resume(f.epoch, false, 0) }()
	}
	began := time.Now()
	if err := f.copyNothing(); err != nil {
		return pause{}, err
	}
	if err := f.send(colo.VMStateReceived, colo.VMStateLoaded); err != nil {
		return pause{}, err
	}
	resumed, stopped, err := f.awaitResume(ctx)
	return pause{Stopped: stopped, Reply: resumed.Sub(began), Pages: f.pages}, err
}

// copyNothing reads an epoch, and drops it.
func (f *floor) copyNothing() (err error) {
	if f.agent != nil {
		defer f.agent.Still().End()
	}
	if err := f.send(colo.CheckpointReply); err != nil {
		return err
	}
	if err := f.reader.Expect(colo.VMStateSend); err != nil {
		return err
	}
	if err := f.reader.Live(f); err != nil {
		return err
	}
	f.device, err = f.reader.DeviceState(f.device[:0])
	return err
}

func (f *floor) send(messages ...colo.Message) error {
	var b []byte
	for _, m := range messages {
		b = colo.AppendMessage(b, m)
	}
	_, err := f.conn.Write(b)
	return err
}

// awaitResume returns when QEMU said that the guest runs, as received here, and
// how long it was stopped by QEMU's own clock.
func (f *floor) awaitResume(ctx context.Context) (at time.Time, length time.Duration, err error) {
	var stopped time.Time
	for {
		select {
		case e, ok := <-f.events.C():
			switch {
			case !ok:
				return at, 0, errors.New("the monitor ended")
			case e.Name == "STOP":
				stopped = e.QEMUTime
			case e.Name == "RESUME" && stopped.IsZero():
				return e.Received, 0, nil
			case e.Name == "RESUME":
				return e.Received, e.QEMUTime.Sub(stopped), nil
			}
		case <-ctx.Done():
			return at, 0, ctx.Err()
		}
	}
}

// leave makes QEMU run on alone.
func (f *floor) leave(ctx context.Context) error {
	if err := f.monitor.COLOLostHeartbeat(ctx); err != nil {
		return err
	}
	return awaitRunning(ctx, f.monitor)
}
