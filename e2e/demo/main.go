// Command demo shows the main job: a NAT in a virtual machine survives the
// death of its QEMU, and then the death of its host, while traffic passes
// through it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/report"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
)

const (
	limit            = 5 * time.Minute // for everything, at the reference's pace
	udpRate, udpPart = 300, 10         // packets per second at most, percent of what the guest carries
	tcpRate          = 1 << 20         // bytes per second at most
)

func main() {
	build := flag.String("build", "build", "the project's build directory")
	before := flag.Duration("before", 5*time.Second, "traffic before each kill")
	after := flag.Duration("after", 4*time.Second, "traffic after each takeover")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, pace.Here().Limit(limit))
	defer cancel()
	d := &demo{build: *build, before: *before, after: *after}
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type demo struct {
	build         string
	before, after time.Duration
	scene         *scene.Scene
	acts          []act
	unprotected   traffic.Latency
	version       string
	udp           int    // packets per second
	tcp           uint64 // bytes per second
}

func say(format string, args ...any) { fmt.Printf("demo: "+format+"\n", args...) }

func (d *demo) run(ctx context.Context) (err error) {
	say("setting the stage: two hosts, a witness, a client, a server")
	d.scene, err = scene.New(ctx, scene.Options{Build: d.build, Arbiter: lab.ArbiterEtcd, ArbiterMembers: lab.MembersWitness})
	if err != nil {
		return err
	}
	defer func() {
		if e := d.scene.Close(); err == nil {
			err = e
		}
	}()
	if err := d.play(ctx); err != nil {
		return d.scene.Explain(err)
	}
	return d.report()
}

func (d *demo) play(ctx context.Context) error {
	s := d.scene
	say("acceleration: %s (%s)", s.Accel.Accel, s.Accel.Why)
	if err := s.Start(ctx); err != nil {
		return err
	}
	say("booting the NAT on host A")
	if err := s.Boot(ctx, s.NAT()); err != nil {
		return err
	}
	m, err := s.A.Machine(ctx, scene.Machine)
	if err != nil {
		return err
	}
	d.version = m.QemuVersion
	load, err := s.Load(ctx)
	if err != nil {
		return err
	}
	d.udp, d.tcp = load.Rate(udpRate, udpPart), load.Bytes(tcpRate)
	say("QEMU %s; %v; %v: sent are %d packets and %d bytes of TCP per second", d.version, s.Pace, load, d.udp, d.tcp)
	if err := d.measureUnprotected(ctx); err != nil {
		return err
	}
	if err := d.act(ctx, s.A, s.B, plot{name: "QEMU dies", killed: "QEMU on host A", kill: func() (time.Time, error) { return s.A.KillQEMU(scene.Machine) }}); err != nil {
		return err
	}
	return d.act(ctx, s.B, s.A, plot{name: "a host dies", killed: "host B: its daemon and its QEMU", kill: s.B.KillAll})
}

// report writes the figures and the picture, and prints the table.
func (d *demo) report() error {
	dir := filepath.Join(d.build, "demo")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := report.Report{Accel: d.scene.Accel.Accel, QEMUVersion: d.version}
	picture := report.Timeline{Title: "A NAT survives the death of its QEMU, and of its host",
		Subtitle: fmt.Sprintf("%d UDP packets per second each way and a TCP stream; QEMU %s, %s", d.udp, d.version, d.scene.Accel.Accel)}
	var pauses, quiesces, commits []time.Duration
	for _, a := range d.acts {
		r.Acts = append(r.Acts, a.figures)
		picture.Acts = append(picture.Acts, a.picture)
		r.Checkpoints += uint64(len(a.checkpoints))
		for _, c := range a.checkpoints {
			pauses = append(pauses, micros(c.PauseUs))
			quiesces = append(quiesces, micros(c.QuiesceUs))
			commits = append(commits, micros(c.TotalUs+c.CommitUs))
		}
	}
	r.RoundTripUS = report.RoundTrip{Unprotected: quantiles(d.unprotected), Protected: quantiles(d.acts[0].latency)}
	r.PauseUS, r.QuiesceUS, r.CommitUS = report.QuantilesOf(pauses), report.QuantilesOf(quiesces), report.QuantilesOf(commits)
	if err := save(filepath.Join(dir, "report.json"), r.WriteJSON); err != nil {
		return err
	}
	if err := save(filepath.Join(dir, "timeline.svg"), picture.WriteSVG); err != nil {
		return err
	}
	fmt.Println()
	if err := r.WriteTable(os.Stdout); err != nil {
		return err
	}
	fmt.Printf("\nfigures: %s\npicture: %s\n", filepath.Join(dir, "report.json"), filepath.Join(dir, "timeline.svg"))
	return d.verdict(r)
}

// verdict fails the demo where the main job was not done.
func (d *demo) verdict(r report.Report) error {
	for _, a := range r.Acts {
		if a.Rollbacks > 0 || a.Reordered > 0 || !a.TCPIntact {
			return fmt.Errorf("act %q: the machine did not survive unharmed; see the table", a.Name)
		}
	}
	return nil
}

func micros(us uint64) time.Duration { return time.Duration(us) * time.Microsecond }

func hostTitle(h *lab.Host) string { return "host " + string(h.Name[0]-'a'+'A') }

func quantiles(l traffic.Latency) report.Quantiles {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	return report.Quantiles{P50: us(l.P50), P95: us(l.P95)}
}
