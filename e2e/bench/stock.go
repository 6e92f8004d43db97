package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// stock is QEMU's own COLO: a second QEMU that runs the guest too, and loads
// each checkpoint before the first goes on (docs/COLO-FT.txt of QEMU, without
// its packet comparison and block replication).
type stock struct {
	dir, ram  string
	space     *lab.Space // for the secondary
	secondary *exec.Cmd
	printed   bytes.Buffer
	ended     chan error
	theirs    *qmp.Client // of the secondary
	ours      *qmp.Client // of the primary
	events    *qmp.Subscription
}

// runStock takes checkpoints of a machine's QEMU, whose daemon must not be there,
// to a secondary on the other host, and lets it go again.
func runStock(ctx context.Context, on, to *lab.Host, machine string, checkpoints int, interval time.Duration) (pauses []pause, err error) {
	err = withStock(ctx, on, to, machine, func(s *stock) error {
		if pauses, err = s.checkpoints(ctx, checkpoints, interval); err != nil {
			return err
		}
		return s.leave(ctx)
	})
	return pauses, err
}

// failOver kills the primary after some checkpoints and tells how long it takes
// until the secondary is alone. Nobody has to notice the death: the order to
// fail over follows the end of the primary's monitor at once.
func failOver(ctx context.Context, on, to *lab.Host, machine string, checkpoints int, interval time.Duration) (took time.Duration, err error) {
	err = withStock(ctx, on, to, machine, func(s *stock) error {
		if _, err := s.checkpoints(ctx, checkpoints, interval); err != nil {
			return err
		}
		at, err := on.KillQEMU(machine)
		if err != nil {
			return err
		}
		alone, err := s.failOver(ctx)
		took = alone.Sub(at)
		return err
	})
	return took, err
}

// errEnded: under TCG a secondary may start from a wrong first copy, and its guest
// then resets soon (see docs/qemu.md on the first copy).
var errEnded = errors.New("the secondary ended by itself")

// withStock runs do under stock COLO, and again where the secondary ended.
func withStock(ctx context.Context, on, to *lab.Host, machine string, do func(*stock) error) error {
	const tries = 3
	for try := 1; ; try++ {
		err := withSecondary(ctx, on, to, machine, do)
		if !errors.Is(err, errEnded) || try == tries {
			return err
		}
		fmt.Println("once more:", err)
	}
}

func withSecondary(ctx context.Context, on, to *lab.Host, machine string, do func(*stock) error) (err error) {
	s := &stock{space: to.Space, ended: make(chan error, 1)}
	pid, err := on.QEMUPid(machine)
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "stillpoint-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.ours, err = qmp.Dial(ctx, filepath.Join(on.RunDir, machine+".qmp"), nil); err != nil {
		return err
	}
	defer s.ours.Close()
	s.events = s.ours.Events()
	defer s.events.Close()
	if err = s.start(ctx, pid); err == nil {
		defer s.end()
		err = do(s)
	}
	if errors.Is(err, errEnded) {
		err = errors.Join(err, s.leave(ctx))
	}
	if err != nil {
		return fmt.Errorf("stock COLO: %w\n%s", err, s.printed.String())
	}
	return nil
}

// start a QEMU with the command line of the primary, but for what one host
// cannot have twice, waiting for a migration.
func (s *stock) start(ctx context.Context, pid int) error {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return err
	}
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	for i := range args {
		args[i] = s.own(args[i])
	}
	args = append(args, "-incoming", "defer")
	s.secondary = exec.Command(args[0], args[1:]...)
	s.secondary.Env = strings.Split(strings.TrimSuffix(string(environment), "\x00"), "\x00")
	s.secondary.Dir, s.secondary.Stdout, s.secondary.Stderr = s.dir, &s.printed, &s.printed
	if err := s.space.Do(s.secondary.Start); err != nil {
		return err
	}
	go func() { s.ended <- s.secondary.Wait() }() // ends with the process, which end kills
	if s.theirs, err = qmp.Dial(ctx, filepath.Join(s.dir, "monitor"), nil); err != nil {
		s.end()
		return err
	}
	return nil
}

var tap = regexp.MustCompile(`^tap,id=port([0-9]+),.*`)

// own replaces sockets, files and taps in one argument.
func (s *stock) own(arg string) string {
	switch {
	case strings.HasPrefix(arg, "memory-backend-file,"):
		at := strings.Index(arg, "mem-path=") + len("mem-path=")
		s.ram = filepath.Join(filepath.Dir(arg[at:]), "secondary.ram") // memory of the same kind
		return arg[:at] + s.ram
	case strings.HasPrefix(arg, "unix:") && strings.Contains(arg, ".qmp,"):
		return "unix:" + filepath.Join(s.dir, "monitor") + ",server=on,wait=off"
	case strings.HasPrefix(arg, "unix:") && strings.Contains(arg, ".oob,"):
		return "unix:" + filepath.Join(s.dir, "urgent") + ",server=on,wait=off"
	case strings.HasPrefix(arg, "socket,id=agent,"):
		return "socket,id=agent,server=on,wait=off,path=" + filepath.Join(s.dir, "agent")
	}
	return tap.ReplaceAllString(arg, "tap,id=port$1,ifname=stock$1,script=no,downscript=no,vhost=off")
}

func (s *stock) end() {
	if s.theirs != nil {
		s.theirs.Close()
	}
	s.secondary.Process.Kill()
	<-s.ended
	os.Remove(s.ram)
}

func (s *stock) checkpoints(ctx context.Context, n int, interval time.Duration) ([]pause, error) {
	uri := "unix:" + filepath.Join(s.dir, "colo")
	for _, m := range []*qmp.Client{s.theirs, s.ours} {
		if err := m.SetCapabilities(ctx, map[string]bool{"x-colo": true, "events": true, "x-ignore-shared": false}); err != nil {
			return nil, err
		}
	}
	if err := s.theirs.MigrateIncoming(ctx, uri); err != nil {
		return nil, err
	}
	if err := s.ours.SetParameters(ctx, qmp.MigrationParameters{CheckpointDelay: qmp.Millis(interval),
		MaxBandwidth: qmp.Bytes(100 << 30), DowntimeLimit: qmp.Millis(2 * time.Second)}); err != nil {
		return nil, err
	}
	if err := s.ours.Migrate(ctx, uri); err != nil {
		return nil, err
	}
	return s.watch(ctx, n)
}

// watch the primary stop and resume. The first pauses end the first copy.
func (s *stock) watch(ctx context.Context, n int) (all []pause, err error) {
	const first = 2
	var stopped time.Time
	for seen := 0; len(all) < n; {
		select {
		case e, ok := <-s.events.C():
			switch {
			case !ok:
				return nil, errors.New("the primary's monitor ended")
			case e.Name == "STOP":
				stopped = e.QEMUTime
			case e.Name == "RESUME" && !stopped.IsZero():
				if seen++; seen > first {
					all = append(all, pause{Stopped: e.QEMUTime.Sub(stopped)})
				}
				stopped = time.Time{}
			}
		case err := <-s.ended:
			s.ended <- err
			return nil, fmt.Errorf("%w after %d checkpoints: %v", errEnded, len(all), err)
		case <-ctx.Done():
			return nil, fmt.Errorf("%d checkpoints: %w", len(all), ctx.Err())
		}
	}
	return all, nil
}

// failOver waits for the end of the primary's monitor, gives the order, and
// tells when the secondary has carried it out and runs alone.
func (s *stock) failOver(ctx context.Context) (alone time.Time, err error) {
	for range s.events.C() { // ends with the monitor
	}
	if err := s.theirs.COLOLostHeartbeat(ctx); err != nil {
		return alone, fmt.Errorf("fail over: %w", err)
	}
	for ctx.Err() == nil {
		m, err := s.theirs.QueryMigrate(ctx)
		if err != nil {
			return alone, err
		}
		if m.Status != qmp.MigrationCOLO {
			err := awaitRunning(ctx, s.theirs)
			return time.Now(), err
		}
		time.Sleep(time.Millisecond)
	}
	return alone, ctx.Err()
}

// leave makes the primary run on alone.
func (s *stock) leave(ctx context.Context) error {
	s.secondary.Process.Kill()
	if err := s.ours.COLOLostHeartbeat(ctx); err != nil {
		return fmt.Errorf("leave stock COLO: %w", err)
	}
	return awaitRunning(ctx, s.ours)
}

func awaitRunning(ctx context.Context, m *qmp.Client) error {
	for ctx.Err() == nil {
		s, err := m.QueryStatus(ctx)
		if err != nil || s.Status == qmp.StateRunning {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}
