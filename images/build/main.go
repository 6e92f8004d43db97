// Command build makes the guests' kernel and images.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/stillpoint-ft/stillpoint/images"
)

func main() {
	module := flag.String("module", ".", "root of the project's source")
	cache := flag.String("cache", "build/cache/packages", "where packages are kept")
	output := flag.String("output", "build/images", "where the images go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	started := time.Now()
	err := images.Build(ctx, images.Options{Module: *module, Cache: *cache, Output: *output,
		Progress: func(format string, args ...any) { fmt.Printf("images: "+format+"\n", args...) }})
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
	fmt.Printf("images: done in %.1f s\n", time.Since(started).Seconds())
}
