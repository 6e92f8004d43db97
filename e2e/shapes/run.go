package shapes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

const (
	most, part = 200, 5 // requests per second, percent of what the first shape carries
	limit      = 5 * time.Minute
)

// ErrNoRoom is returned where this machine has too little memory for the shape.
var ErrNoRoom = errors.New("too little memory here")

// Result of a shape: what it took until the machine was protected, and until it
// ran on the other host.
type Result struct {
	Protected, Running time.Duration
	Sent, Lost         uint64
}

func (r Result) String() string {
	return fmt.Sprintf("protected after %v, running again after %v; %d packets sent, %d lost",
		r.Protected.Round(time.Millisecond), r.Running.Round(time.Millisecond), r.Sent, r.Lost)
}

// run is a shape being tried.
type run struct {
	*scene.Scene
	shape   Shape
	machine lab.Machine
	traffic *scene.Traffic // nil where the machine carries none
	Result
}

// Run protects a machine of the shape under load, kills its QEMU and expects it
// to run on at the standby and to be protected again, with nothing lost. Any other
// end is an error.
func Run(ctx context.Context, build string, shape Shape) (result Result, err error) {
	if err := room(shape); err != nil {
		return result, err
	}
	s, err := scene.New(ctx, scene.Options{Build: build, QEMU: shape.QEMU})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, s.Pace.Limit(limit))
	defer cancel()
	r := &run{Scene: s, shape: shape}
	if err := r.prepare(); err != nil {
		return result, err
	}
	if err := r.play(ctx); err != nil {
		return r.Result, s.Explain(err)
	}
	return r.Result, nil
}

// room for two copies of the guest's memory and for what else there is.
func room(shape Shape) error {
	mib, err := memoryMiB(shape.Memory)
	if err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(strings.NewReader(string(b))); lines.Scan(); {
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 && kib/1024 < 2*mib+1024 {
			return fmt.Errorf("%w: %s for each host and 1 GiB are wanted, %d MiB are available", ErrNoRoom, shape.Memory, kib/1024)
		}
	}
	return nil
}

func memoryMiB(text string) (int, error) {
	if gib, ok := strings.CutSuffix(text, "GiB"); ok {
		n, err := strconv.Atoi(gib)
		return n * 1024, err
	}
	return strconv.Atoi(strings.TrimSuffix(text, "MiB"))
}

// prepare makes the specification and what it names.
func (r *run) prepare() (err error) {
	m := r.NAT()
	if r.shape.Cards == "1" {
		ports := m.Ports[:1]
		m = lab.PlainMachine(r.Images, scene.Machine)
		m.Ports = ports
	}
	m.Append += " stillpoint.dirty=50"
	m.Machine, m.Memory = r.shape.Chipset, r.shape.Memory
	if m.CPUs, err = strconv.Atoi(r.shape.CPUs); err != nil {
		return err
	}
	cards, err := strconv.Atoi(r.shape.Cards)
	if err != nil {
		return err
	}
	for range cards - len(m.Ports) {
		m.ExtraArgs = append(m.ExtraArgs, "-device", "virtio-net-pci")
	}
	m.ExtraArgs = append(m.ExtraArgs, deviceArguments(r.shape.Device)...)
	if r.shape.Disk != "none" {
		if m.Disk, err = r.disk(); err != nil {
			return err
		}
	}
	r.machine = m
	return nil
}

// disk makes an image that both hosts see.
func (r *run) disk() (*lab.Disk, error) {
	path := filepath.Join(r.Dir, "disk."+r.shape.Disk)
	// An image's format without a tool: a raw one is any file.
	if r.shape.Disk == "raw" {
		if err := os.WriteFile(path, make([]byte, 8<<20), 0o644); err != nil {
			return nil, err
		}
	} else if err := os.WriteFile(path, emptyQCOW2(8<<20), 0o644); err != nil {
		return nil, err
	}
	return &lab.Disk{Image: path, Format: r.shape.Disk, ReadOnly: true}, nil
}

func (r *run) play(ctx context.Context) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := r.Scene.Protect(ctx, r.A, r.B); err != nil {
		return fmt.Errorf("protect: %w", err)
	}
	r.Protected = time.Since(began)
	if err := r.flow(ctx); err != nil {
		return fmt.Errorf("protected: %w", err)
	}
	mark := r.B.EventMark()
	at, err := r.A.KillQEMU(scene.Machine)
	if err != nil {
		return err
	}
	running, err := r.B.WaitEvent(ctx, mark, lab.Kind(scene.Machine, "running"))
	if err != nil {
		return fmt.Errorf("after the end of its QEMU: %w", err)
	}
	r.Running = time.Unix(0, running.TimeUnixNanos).Sub(at.Round(0))
	if _, err := r.B.WaitRole(ctx, scene.Machine, "protected"); err != nil {
		return fmt.Errorf("protect it again, by host a: %w", err)
	}
	if err := r.flow(ctx); err != nil {
		return fmt.Errorf("protected again: %w", err)
	}
	return r.judge(ctx)
}

// begin boots the machine and sends traffic through it, if it carries any.
func (r *run) begin(ctx context.Context) error {
	if r.shape.Cards == "1" {
		_, err := r.A.StartMachine(ctx, r.machine)
		return err
	}
	if err := r.Boot(ctx, r.machine); err != nil {
		return err
	}
	load, err := r.Load(ctx)
	if err != nil {
		return err
	}
	r.traffic, err = r.StartTraffic(ctx, scene.TrafficOptions{Rate: load.Rate(most, part), Stream: 1})
	if err != nil {
		return err
	}
	return r.flow(ctx)
}

// flow waits until some packets have come back.
func (r *run) flow(ctx context.Context) error {
	if r.traffic == nil {
		return nil
	}
	if err := r.traffic.Flowing(ctx, 50); err != nil {
		return fmt.Errorf("packets do not flow: %w; %v", err, r.traffic)
	}
	return nil
}

func (r *run) judge(ctx context.Context) error {
	if r.traffic == nil {
		return nil
	}
	got, err := r.traffic.Stop(ctx)
	if err != nil {
		return err
	}
	r.Sent, r.Lost = got.Verdict.Sent, got.Verdict.Lost
	if v := got.Verdict; v.Lost > 0 || !v.Clean() {
		return fmt.Errorf("only QEMU died, yet: %v", v)
	}
	return nil
}
