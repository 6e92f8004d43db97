// Command machines protects machines of many shapes, one after the other: all
// pairs of values of chipset, processors, cards, memory, disk, devices and
// QEMU. Each is protected under load and taken over.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/shapes"
)

func main() {
	build := flag.String("build", "build", "the project's build directory")
	only := flag.String("only", "", "try only shapes whose names contain this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if failed := try(ctx, *build, *only); failed > 0 {
		os.Exit(1)
	}
}

// try tells how many of the shapes failed, and ends with a line for all of them.
func try(ctx context.Context, build, only string) (failed int) {
	began := time.Now()
	passed, skipped := 0, 0
	all := shapes.Pairwise(scene.Series(build))
	for n, shape := range all {
		if ctx.Err() != nil {
			break
		}
		if !strings.Contains(shape.String(), only) {
			continue
		}
		r, err := shapes.Run(ctx, build, shape)
		var result any = r
		switch {
		case errors.Is(err, shapes.ErrNoRoom):
			skipped++
			result = fmt.Sprint("skipped: ", err)
		case err != nil:
			failed++
			result = fmt.Sprint("FAILED: ", err)
		default:
			passed++
		}
		fmt.Printf("machines: %d of %d, %v: %v\n", n+1, len(all), shape, result)
	}
	fmt.Printf("machines: %d passed, %d failed, %d skipped in %v\n", passed, failed, skipped, time.Since(began).Round(time.Second))
	return failed
}
