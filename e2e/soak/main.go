// Command soak runs the nemesis for a long time and writes a report.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/nemesis"
)

func main() {
	var o nemesis.Options
	duration := flag.Duration("duration", time.Hour, "how long to go on")
	first := flag.Uint64("seed", 0, "the first seed; the next ones follow it (0: one at random)")
	flag.IntVar(&o.Rounds, "rounds", 30, "rounds for each seed")
	flag.StringVar(&o.Build, "build", "build", "the project's build directory")
	report := flag.String("report", "build/soak/report.md", "where the report goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.Progress = os.Stdout
	if *first == 0 {
		*first = uint64(random())
	}
	found, err := soak(ctx, o, *first, *duration, *report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	if found > 0 {
		fmt.Fprintf(os.Stderr, "soak: %d findings; see %s\n", found, *report)
		os.Exit(1)
	}
	fmt.Println("soak: the nemesis found nothing; report:", *report)
}

func random() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

// soak runs one seed after the other until the time is over. A seed that fails
// to run counts as a finding.
func soak(ctx context.Context, o nemesis.Options, seed uint64, limit time.Duration, path string) (found int, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return 0, err
	}
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	began, rounds := time.Now(), 0
	for ; time.Since(began) < limit && ctx.Err() == nil; seed++ {
		fmt.Printf("seed %d, after %v\n", seed, time.Since(began).Round(time.Second))
		o.Seed = seed
		r, err := nemesis.Run(ctx, o)
		if err != nil && ctx.Err() == nil {
			r.Findings = append(r.Findings, "the run failed: "+err.Error())
		}
		r.WriteText(file)
		fmt.Fprintln(file)
		found += len(r.Findings)
		rounds += len(r.Rounds)
	}
	summary := fmt.Sprintf("%d rounds in %v, %d findings", rounds, time.Since(began).Round(time.Second), found)
	fmt.Println("soak:", summary)
	_, err = fmt.Fprintf(file, "# In all\n\n%s.\n", summary)
	return found, err
}
